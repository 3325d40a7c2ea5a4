//! People who moved in by a real ceremony, and what their browsers hold.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth::accounts::SignUpStep;
use berth::app::App;
use berth::instances::Instance;
use berth_ground::clock::Clock;
use berth_net::peer::Client;
use sha2::Digest as _;

use berth_testing::passkey_browser::{OneTimeCodeApp, PasskeyBrowser};

/// Somebody with an instance, and the cookie of its host.
pub struct Person {
    pub instance: Arc<Instance>,
    pub host: String,
    pub cookie: String,
}

impl Person {
    /// The Engine's id of their container.
    pub fn container(&self) -> anyhow::Result<String> {
        Ok(self.instance.container().context("there is no container")?.to_string())
    }
}

/// Signs somebody up with a real ceremony, from an address of their own, and hands them off to their instance.
pub async fn move_in(app: &App, clock: &Clock, number: usize) -> anyhow::Result<Person> {
    let ip = IpAddr::V4(Ipv4Addr::from(0x0A00_0001 + u32::try_from(number)?));
    let client = Client { ip, user_agent: "bench".into() };
    let (accounts, mut browser) = (&app.accounts, PasskeyBrowser::at_home());
    let handle = format!("alice{number}");
    let token = accounts.sign_up_begin(&handle, None, None, &client).await?;
    let token = token.reveal();
    let options = accounts.sign_up_passkey_challenge(token).await?;
    accounts.sign_up_passkey(token, browser.create(&options).await).await?;
    let SignUpStep::OneTimeCode { secret, .. } = accounts.sign_up(token).await?.step else {
        bail!("the one-time code comes after the passkey")
    };
    accounts.sign_up_code(token, &OneTimeCodeApp::with(&secret).code(clock)).await?;
    let (signed_in, instance) = accounts.sign_up_finish(token, &client).await?;

    let session = accounts.authenticate("app.example.com", signed_in.session.reveal()).await?;
    let session = session.context("somebody who just signed up is logged in")?;
    let (host, challenge) = (format!("{handle}.example.com"), URL_SAFE_NO_PAD.encode(sha2::Sha256::digest("verifier")));
    let code = accounts.hand_off(&session, &host, "state", &challenge).await?;
    let token = accounts.hand_off_redeem(&host, code.reveal(), "state", "verifier", &client).await?;
    let cookie = format!("__Host-berth={}", token.context("a fresh code is good")?.reveal());
    Ok(Person { instance, host, cookie })
}
