//! A WebDriver fixture: headless Chromium with a virtual authenticator that holds passkeys. It trusts the given CA and
//! gets no flag that would ignore a bad certificate.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use thirtyfour::common::command::{Command as WebDriverCommand, ExtensionCommand};
use thirtyfour::prelude::*;

use crate::caddy::CaddyProxy;
use crate::deployed_stack::{DeployedStack, PATIENCE};
use crate::passkey_browser::OneTimeCodeApp;
use crate::wait::Wait;

pub struct ChromiumUser {
    /// Dropped first: it closes the browser, which would outlive a killed chromedriver. The drop blocks its thread
    /// until then, so a test with a browser needs a multi-threaded runtime.
    pub page: WebDriver,
    pub codes: Option<OneTimeCodeApp>,
    _chromedriver: Chromedriver,
    _home: tempfile::TempDir,
}

impl ChromiumUser {
    /// Sits down at a fresh browser.
    pub async fn at(stack: &DeployedStack) -> Self {
        Self::with_browser(&stack.authority(), &[]).await
    }

    /// A new browser for a fixture's Caddy: it trusts Caddy's CA and resolves every name below example.com to it.
    /// `flags` are Chromium's.
    pub async fn before(front: &CaddyProxy, flags: &[&str]) -> Self {
        let flags: Vec<&str> =
            flags.iter().copied().chain(["--host-resolver-rules=MAP *.example.com 127.0.0.1"]).collect();
        Self::with_browser(&front.own_authority(), &flags).await
    }

    async fn with_browser(authority: &std::path::Path, flags: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        trust(home.path(), authority);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let chromedriver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .env("HOME", home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed; scripts/test does it");
        let page = open(port, home.path(), flags).await;
        page.cmd(WebDriverCommand::ExtensionCommand(Box::new(AddAuthenticator))).await.unwrap();
        Self { page, codes: None, _chromedriver: Chromedriver(chromedriver), _home: home }
    }

    pub async fn goto(&self, url: &str) {
        // Chromium gives up on a page when a network interface appears meanwhile, and containers bring theirs.
        for _ in 0..5 {
            match self.page.goto(url).await {
                Err(error) if error.to_string().contains("ERR_NETWORK_CHANGED") => {}
                done => return done.unwrap(),
            }
        }
    }

    /// Clicks, again if the page was just being replaced by the next one.
    pub async fn click(&self, css: &str) {
        self.until(&format!("a click on {css}"), async || self.find(css).await.click().await.is_ok()).await;
    }

    pub async fn type_into(&self, css: &str, text: &str) {
        let types = async || {
            let field = self.find(css).await;
            field.clear().await.is_ok() && field.send_keys(text).await.is_ok()
        };
        self.until(&format!("{css} to take the text"), types).await;
    }

    /// Waits for the element.
    pub async fn find(&self, css: &str) -> WebElement {
        match self.page.query(By::Css(css)).wait(PATIENCE, Duration::from_millis(50)).first().await {
            Ok(found) => found,
            Err(_) => panic!("no {css} on {}:\n{}", self.url().await, self.text().await),
        }
    }

    pub async fn url(&self) -> String {
        self.page.current_url().await.unwrap().to_string()
    }

    /// Waits until the address begins so.
    pub async fn until_at(&self, beginning: &str) {
        self.until(&format!("{beginning} in the address bar"), async || self.url().await.starts_with(beginning)).await;
    }

    /// Waits until the page says so.
    pub async fn until_it_says(&self, words: &str) {
        self.until(&format!("the page to say \"{words}\""), async || self.text().await.contains(words)).await;
    }

    pub async fn text(&self) -> String {
        match self.page.find(By::Tag("body")).await {
            Ok(body) => body.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let wait = Wait::within(PATIENCE).every(Duration::from_millis(50));
        if !wait.succeeds(holds).await {
            panic!("waited in vain for {what}; at {} the page says:\n{}", self.url().await, self.text().await);
        }
    }

    /// Logs out. The page for logging in may be gone before it is seen: the authenticator answers it by itself.
    pub async fn log_out(&self) {
        let session = async || self.page.get_named_cookie("__Host-berth").await.map(|cookie| cookie.value).ok();
        let before = session().await;
        self.click("form[action='/log-out'] button").await;
        self.until("the session to end", async || session().await != before).await;
    }

    /// Logs in with the passkey, and is taken to an address that begins so. The authenticator may be quicker than the
    /// button: it answers what the page offers for autofill.
    pub async fn log_in(&self, then: &str) {
        self.until(&format!("{then} after logging in"), async || {
            if !self.url().await.starts_with(then)
                && let Ok(button) = self.page.find(By::Css("[data-passkey=get]")).await
            {
                let _ = button.click().await;
            }
            self.url().await.starts_with(then)
        })
        .await;
    }

    /// Gives the browser a cookie, a whole pair, for the host of `origin`; leaves it there.
    pub async fn take_cookie(&self, origin: &str, pair: &str) {
        self.goto(&format!("{origin}/.berth/assets/berth.svg")).await;
        let (name, value) = pair.split_once('=').unwrap();
        let mut cookie = Cookie::new(name, value);
        cookie.set_path("/");
        cookie.set_secure(true);
        self.page.add_cookie(cookie).await.unwrap();
    }

    /// A cookie of the page that is open, as a pair to send.
    pub async fn cookie(&self, name: &str) -> String {
        let cookie = self.page.get_named_cookie(name).await.unwrap();
        format!("{name}={}", cookie.value)
    }

    /// From the handle to the page inside the own container.
    pub async fn sign_up(&mut self, stack: &DeployedStack, first_page: &str, handle: &str) {
        self.goto(first_page).await;
        self.type_into("#handle", handle).await;
        self.click("form button[type=submit], main form button").await;
        self.until_at(&format!("{}/sign-up/passkey", stack.origin("app"))).await;
        self.click("[data-passkey]").await;
        self.until_at(&format!("{}/sign-up/code", stack.origin("app"))).await;
        let secret: String = self.find("code.secret").await.text().await.unwrap().split_whitespace().collect();
        assert!(self.find("svg").await.is_displayed().await.unwrap(), "the QR code is drawn by the server");
        let codes = OneTimeCodeApp::with(&secret);
        self.type_into("#code", &codes.code(&berth_ground::clock::Clock::system())).await;
        self.codes = Some(codes);
        self.click("main form button").await;
        self.until_at(&format!("{}/sign-up/recovery-codes", stack.origin("app"))).await;
        assert_eq!(self.page.find_all(By::Css("[data-codes] li")).await.unwrap().len(), 10);
        self.click("input[name=saved]").await;
        self.click("main form button").await;
        self.until_at(&stack.origin(handle)).await;
        self.until_it_says(handle).await;
    }
}

/// The program between us and the browser.
struct Chromedriver(Child);

impl Drop for Chromedriver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn open(port: u16, home: &std::path::Path, more: &[&str]) -> WebDriver {
    // The client behind thirtyfour asks for a TLS provider even to speak plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut wishes = DesiredCapabilities::chrome();
    wishes.set_binary("/usr/bin/chromium").unwrap();
    for flag in [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1280,900",
    ]
    .iter()
    .chain(more)
    {
        wishes.add_arg(flag).unwrap();
    }
    wishes.add_arg(&format!("--user-data-dir={}", home.join("profile").display())).unwrap();
    let open = async || WebDriver::new(format!("http://127.0.0.1:{port}"), wishes.clone()).await.ok();
    let driver = Wait::within(PATIENCE).every(Duration::from_millis(100)).value(open).await;
    driver.expect("chromedriver opens a browser")
}

/// As README says: into the store that Chromium reads.
pub fn trust(home: &std::path::Path, authority: &std::path::Path) {
    let store = home.join(".pki/nssdb");
    std::fs::create_dir_all(&store).unwrap();
    let store = format!("sql:{}", store.display());
    for words in [
        vec!["-d", &store, "-N", "--empty-password"],
        vec!["-d", &store, "-A", "-t", "C,,", "-n", "berth", "-i", authority.to_str().unwrap()],
    ] {
        let done = Command::new("certutil").args(&words).status().expect("certutil is installed; scripts/test does it");
        assert!(done.success(), "certutil {words:?}");
    }
}

/// The WebDriver extension command of WebAuthn (W3C WebAuthn, section 11) that adds a virtual platform authenticator
/// with resident keys and user verification.
#[derive(Debug)]
struct AddAuthenticator;

impl ExtensionCommand for AddAuthenticator {
    fn parameters_json(&self) -> Option<Value> {
        Some(json!({
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true, "isUserVerified": true,
        }))
    }

    fn method(&self) -> Method {
        Method::POST
    }

    fn endpoint(&self) -> Arc<str> {
        Arc::from("/webauthn/authenticator")
    }
}
