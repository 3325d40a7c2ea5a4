//! `git clone` and `git push` over HTTP, to git's own server program.

use std::io::Read as _;

use super::*;

/// More than git's `http.postBuffer`, so that it sends the push chunked.
const LARGE: u64 = 3 << 20;

impl Scene {
    /// A `git` that goes through Caddy as the owner, with the cookie and the Origin header that unsafe methods need.
    fn git(&self, folder: &Path, words: &[&str]) -> Command {
        let mut git = Command::new("git");
        let settings = [
            format!("http.extraHeader=Cookie: {}", self.cookie),
            format!("http.extraHeader=Origin: {}", self.origin()),
            format!("http.curloptResolve={HOST}:{}:127.0.0.1", self.front.https),
            "user.name=Alice".into(),
            "user.email=alice@example.com".into(),
            "init.defaultBranch=main".into(),
        ];
        for setting in &settings {
            git.args(["-c", setting]);
        }
        // Set in the environment, which overrides a setting: the machine may have one there already.
        git.env("GIT_SSL_CAINFO", self.front.own_authority())
            .env("HOME", self.folder.path())
            .current_dir(folder)
            .args(words);
        git
    }
}

#[tokio::test]
async fn a_repository_is_cloned_and_pushed_to() {
    let server = fixture("git_server.py");
    let scene = Scene::with(|folder| {
        let mut program = python(&server);
        program.env("GIT_PROJECT_ROOT", folder);
        program
    })
    .await;
    let home = scene.folder.path();
    said(scene.git(home, &["init", "--quiet", "--bare", "work.git"])).await;
    let url = format!("{}/work.git", scene.origin());
    said(scene.git(home, &["clone", "--quiet", &url, "first"])).await;
    let first = home.join("first");
    let mut noise = Vec::new();
    std::fs::File::open("/dev/urandom").unwrap().take(LARGE).read_to_end(&mut noise).unwrap();
    std::fs::write(first.join("noise"), &noise).unwrap();
    said(scene.git(&first, &["add", "noise"])).await;
    said(scene.git(&first, &["commit", "--quiet", "-m", "Keep some noise"])).await;
    said(scene.git(&first, &["push", "--quiet", "origin", "HEAD:main"])).await;
    said(scene.git(home, &["clone", "--quiet", "--branch", "main", &url, "second"])).await;
    assert_eq!(std::fs::read(home.join("second/noise")).unwrap(), noise);
}
