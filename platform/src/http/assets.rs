//! Static assets, embedded in the binary and served under fingerprinted names. The app host, the apex and the
//! instances' hosts serve them through the same function.

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use berth_ground::error::Error;
use rust_embed::{EmbeddedFile, RustEmbed};

use super::problem::Problem;

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/../pages/static"]
struct AssetFiles;

/// The fingerprinted name of a file: `berth.1a2b3c4d.css`, with a hash of its content, so that browsers may cache it
/// forever (cache busting).
///
/// # Panics
/// When there is no such file: templates name only files that exist, and a test renders them all.
#[must_use]
pub fn name(file: &str) -> String {
    let hash = hash(&AssetFiles::get(file).unwrap_or_else(|| panic!("no asset is called {file}")));
    let (stem, ending) = file.rsplit_once('.').expect("every asset has an ending");
    format!("{stem}.{hash}.{ending}")
}

/// The address of a file on the app host and the apex.
#[must_use]
pub fn url(file: &str) -> String {
    format!("/assets/{}", name(file))
}

/// The address of a file on an instance's host, where every path outside `/.berth/` belongs to the instance.
#[must_use]
pub fn edge_url(file: &str) -> String {
    format!("/.berth/assets/{}", name(file))
}

/// `GET /assets/{*path}`.
pub async fn show(Path(path): Path<String>) -> Response {
    serve(&path)
}

/// Serves a file by the part of its address after the folder of assets. Only a name with the current hash is cacheable.
#[must_use]
pub fn serve(path: &str) -> Response {
    // First without the hash, then as the whole name: a file may have two dots of its own.
    let (plain, asked) = split(path);
    let found = AssetFiles::get(&plain).map(|file| (asked, file)).or_else(|| Some((None, AssetFiles::get(path)?)));
    let Some((asked, file)) = found else { return Problem::from(Error::NotFound).into_response() };
    // A page of the previous version may request its old fingerprint. It gets the current file, which must not be
    // cached under the old name.
    let kept = if asked == Some(&hash(&file)) { "public, max-age=31536000, immutable" } else { "no-cache" };
    ([(header::CONTENT_TYPE, content_type(&plain)), (header::CACHE_CONTROL, kept)], file.data).into_response()
}

/// `berth.1a2b3c4d.css` as `berth.css` and the hash.
fn split(path: &str) -> (String, Option<&str>) {
    if let Some((front, ending)) = path.rsplit_once('.')
        && let Some((stem, hash)) = front.rsplit_once('.')
    {
        return (format!("{stem}.{ending}"), Some(hash));
    }
    (path.to_owned(), None)
}

/// The media type of a file by its ending.
fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        // With `nosniff` a browser takes it for neither a script nor a style sheet.
        _ => "application/octet-stream",
    }
}

fn hash(file: &EmbeddedFile) -> String {
    // Four bytes: they tell versions of one file apart and need not resist an attacker, who cannot choose our files.
    hex::encode(&file.metadata.sha256_hash()[..4])
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn a_hashed_name_is_kept_for_ever_and_any_other_is_not() {
        let kept = |path: &str| serve(path).headers()[header::CACHE_CONTROL].to_str().unwrap().to_owned();
        assert!(kept(&name("berth.css")).contains("immutable"));
        assert_eq!(kept("berth.00000000.css"), "no-cache");
        assert_eq!(kept("berth.css"), "no-cache");
        assert_eq!(serve("berth.css").headers()[header::CONTENT_TYPE], "text/css; charset=utf-8");
        for file in AssetFiles::iter() {
            assert_ne!(serve(&file).headers()[header::CONTENT_TYPE], "application/octet-stream", "{file}");
        }
        for path in ["", "no.css", "../base.html", "/etc/passwd", "..%2fbase.html"] {
            assert_eq!(serve(path).status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
