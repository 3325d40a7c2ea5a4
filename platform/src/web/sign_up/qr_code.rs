//! QR codes as SVG, drawn on the server so that the secret in them never leaves the page.

use berth_ground::error::Error;
use qrcode::{Color, QrCode};

/// A QR code as one SVG path, with one unit for each module.
pub struct QrPath {
    /// Side length including the quiet zone of four modules that ISO/IEC 18004 requires.
    pub side: usize,
    pub path: String,
}

impl QrPath {
    const QUIET: usize = 4;

    /// Encodes a text.
    ///
    /// # Errors
    /// When the text is too long for a QR code (2,953 bytes).
    pub fn of(text: &str) -> Result<Self, Error> {
        let code = QrCode::new(text).map_err(|error| Error::Internal(error.into()))?;
        let width = code.width();
        let dark = code.to_colors().into_iter().enumerate().filter(|(_, color)| *color == Color::Dark);
        let square = |(i, _)| format!("M{} {}h1v1h-1z", i % width + Self::QUIET, i / width + Self::QUIET);
        Ok(Self { side: width + 2 * Self::QUIET, path: dark.map(square).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_has_its_quiet_zone() {
        let qr = QrPath::of("otpauth://totp/Berth:alice?secret=JBSWY3DPEHPK3PXP&issuer=Berth").unwrap();
        assert!(qr.path.starts_with("M4 4h1v1h-1z"), "the corner mark begins behind the quiet zone");
        assert!(qr.side >= 21 + 8);
    }
}
