//! A person with a browser whose platform may be killed at any moment: a request is answered, or fails with an error.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use axum::body::Body;
use axum::http::{Method, Request, header};
use berth_ground::clock::Clock;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use berth_testing::passkey_browser::{OneTimeCodeApp, PasskeyBrowser};

const APP: &str = "app.example.com";
/// The timeout of a request.
const PATIENCE: Duration = Duration::from_secs(20);

/// The browser of one account, which reaches the platform by HTTP alone: its cookies and its IP address.
#[derive(Clone)]
pub struct HttpBrowser {
    pub handle: String,
    platform: SocketAddr,
    client: Client<HttpConnector, Body>,
    /// By host and name.
    cookies: BTreeMap<(String, String), String>,
    ip: String,
}

pub struct Answer {
    pub status: u16,
    pub location: String,
    pub text: String,
}

impl HttpBrowser {
    pub fn new(handle: String, platform: SocketAddr) -> Self {
        let ip = std::net::Ipv4Addr::from(Clock::system().random::<4>()).to_string();
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { handle, platform, client, cookies: BTreeMap::new(), ip }
    }

    /// Goes through all pages of the sign-up. `Ok`: the last page confirmed the account.
    pub async fn sign_up(&mut self) -> anyhow::Result<()> {
        let form = format!("handle={}", self.handle);
        self.post("/sign-up", &form).await?.sends_to("/sign-up/passkey")?;
        let options: Value =
            serde_json::from_str(&self.post_json("/sign-up/passkey/challenge", &json!({})).await?.text)?;
        let made = PasskeyBrowser::at_home().create(&options).await;
        self.post_json("/sign-up/passkey", &made).await?.is(200)?;
        let page = self.get(APP, "/sign-up/code", "text/html").await?.text;
        let secret = page.split("class=\"secret\">").nth(1).and_then(|rest| rest.split('<').next());
        let code = OneTimeCodeApp::with(&secret.context("a secret")?.replace(' ', "")).code(&Clock::system());
        self.post("/sign-up/code", &format!("code={code}")).await?.sends_to("/sign-up/recovery-codes")?;
        self.post("/sign-up/finish", "saved=yes").await?.sends_to("/welcome")
    }

    /// Gets a cookie of the instance's own host, as a browser does that follows where it is sent.
    async fn come_in(&mut self) -> anyhow::Result<()> {
        let (mut host, mut path) = (self.host(), "/".to_owned());
        for _ in 0..4 {
            if self.cookies.contains_key(&(self.host(), "__Host-berth".into())) {
                return Ok(());
            }
            let answer = self.get(&host, &path, "text/html").await?;
            let Some(there) = answer.location.strip_prefix("https://") else {
                ensure!(answer.location.starts_with('/'), "{} at {host}{path}", answer.status);
                path = answer.location;
                continue;
            };
            let (to, rest) = there.split_once('/').unwrap_or((there, ""));
            (host, path) = (to.to_owned(), format!("/{rest}"));
        }
        ensure!(self.cookies.contains_key(&(self.host(), "__Host-berth".into())), "no way in");
        Ok(())
    }

    /// The body of a successful response by the program in the instance.
    async fn ask(&mut self, path: &str) -> anyhow::Result<String> {
        let answer = self.get(&self.host(), path, "*/*").await?;
        answer.is(200)?;
        Ok(answer.text)
    }

    /// Like [`HttpBrowser::ask`], with a session on the instance's host.
    pub async fn visit_as_owner(&mut self, path: &str) -> anyhow::Result<String> {
        self.come_in().await?;
        self.ask(path).await
    }

    /// The response of the program in the instance, or of the edge.
    pub async fn visit(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.get(&self.host(), path, "*/*").await
    }

    /// Sends a wish to the API; whether it was written. `Err`: unknown.
    pub async fn wish(&mut self, word: &str) -> anyhow::Result<bool> {
        let answer = self.post_json(&format!("/api/instance/{word}"), &json!({})).await?;
        match answer.status {
            202 => Ok(true),
            403 | 409 => Ok(false),
            status => bail!("{status}: {}", answer.text),
        }
    }

    fn host(&self) -> String {
        format!("{}.example.com", self.handle)
    }

    async fn get(&mut self, host: &str, path: &str, accept: &str) -> anyhow::Result<Answer> {
        let request = Request::builder().method(Method::GET).header(header::ACCEPT, accept);
        self.send(host, path, request, String::new()).await
    }

    async fn post(&mut self, path: &str, form: &str) -> anyhow::Result<Answer> {
        let request = Request::builder().method(Method::POST).header(header::ACCEPT, "text/html");
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(APP, path, request, form.to_owned()).await
    }

    async fn post_json(&mut self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        let request = Request::builder().method(Method::POST).header(header::ACCEPT, "application/json");
        self.send(APP, path, request.header(header::CONTENT_TYPE, "application/json"), body.to_string()).await
    }

    async fn send(
        &mut self,
        host: &str,
        path: &str,
        request: axum::http::request::Builder,
        body: String,
    ) -> anyhow::Result<Answer> {
        let jar: Vec<String> =
            self.cookies.iter().filter(|((at, _), _)| at == host).map(|((_, n), v)| format!("{n}={v}")).collect();
        let request = request
            .uri(format!("http://{}{path}", self.platform))
            .header(header::HOST, host)
            .header("x-forwarded-for", &self.ip)
            .header("sec-fetch-site", "same-origin")
            .header(header::ORIGIN, format!("https://{host}"))
            .header(header::COOKIE, jar.join("; "))
            .body(Body::from(body))?;
        let answered = tokio::time::timeout(PATIENCE, async {
            let (head, body) = self.client.request(request).await?.into_parts();
            anyhow::Ok((head, axum::body::to_bytes(Body::new(body), 1 << 20).await?))
        });
        let (head, body) = answered.await.with_context(|| format!("waiting for {host}{path}"))??;
        for cookie in head.headers.get_all(header::SET_COOKIE) {
            let Some((name, rest)) = cookie.to_str()?.split_once('=') else { continue };
            let key = (host.to_owned(), name.to_owned());
            match rest.split(';').next() {
                Some(value) if !rest.contains("Max-Age=0") => self.cookies.insert(key, value.to_owned()),
                _ => self.cookies.remove(&key),
            };
        }
        let location = head.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        Ok(Answer {
            status: head.status.as_u16(),
            location: location.unwrap_or_default().to_owned(),
            text: String::from_utf8_lossy(&body).into_owned(),
        })
    }
}

impl Answer {
    fn sends_to(&self, path: &str) -> anyhow::Result<()> {
        if self.location != path {
            bail!("{} to {:?} instead of {path}", self.status, self.location);
        }
        Ok(())
    }

    fn is(&self, status: u16) -> anyhow::Result<()> {
        ensure!(self.status == status, "{} instead of {status}: {}", self.status, self.text);
        Ok(())
    }
}
