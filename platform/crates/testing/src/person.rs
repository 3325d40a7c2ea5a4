//! An account in tests: its instance, and the credentials that its sign-up, its hand-off and its container gave it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth::accounts::{Accounts, SignUpStep};
use berth::app::App;
use berth::db::{AccountId, InstanceId};
use berth::instances::Instance;
use berth_ground::handle::Handle;
use berth_ground::secrets::Token;
use sea_orm::ConnectionTrait as _;
use sha2::Digest as _;

use crate::passkey_browser::{OneTimeCodeApp, PasskeyBrowser};
use crate::somebody;

/// An account, and its instance as the platform's process at that time knew it.
#[derive(Clone)]
pub struct Person {
    pub handle: String,
    pub instance: Arc<Instance>,
    session: Option<Token>,
    cookie: Option<String>,
    token: Option<String>,
}

impl Person {
    /// Signs up an account with a complete ceremony, as a browser at an IP address of its own does it. The instance may
    /// not be running yet.
    pub async fn sign_up(app: &App, handle: &str) -> Self {
        let (client, accounts) = (somebody(), &app.accounts);
        let mut browser = PasskeyBrowser::at_home().on_page_of(&app.config.hosts.app_origin());
        let token = accounts.sign_up_begin(handle, None, None, &client).await.unwrap();
        let token = token.reveal();
        let options = accounts.sign_up_passkey_challenge(token).await.unwrap();
        accounts.sign_up_passkey(token, browser.create(&options).await).await.unwrap();
        let SignUpStep::OneTimeCode { secret, .. } = accounts.sign_up(token).await.unwrap().step else {
            panic!("the one-time code comes after the passkey")
        };
        let codes = OneTimeCodeApp::with(&secret);
        accounts.sign_up_code(token, &codes.code(&app.clock)).await.unwrap();
        let (signed_in, instance) = accounts.sign_up_finish(token, &client).await.unwrap();
        Self { session: Some(signed_in.session), ..Self::without_credentials(handle, instance) }
    }

    /// Inserts an account without a ceremony, which costs a test next to no processor time. It cannot log in.
    pub async fn insert(app: &App, handle: &str) -> Self {
        let id = insert_account(app, &Handle::parse(handle).unwrap()).await;
        Self::without_credentials(handle, app.instances.load_committed(id).await.unwrap())
    }

    fn without_credentials(handle: &str, instance: Arc<Instance>) -> Self {
        Self { handle: handle.to_owned(), instance, session: None, cookie: None, token: None }
    }

    /// The same person with the token of their container.
    #[must_use]
    pub fn with_token(self, token: String) -> Self {
        Self { token: Some(token), ..self }
    }

    /// The same person with their instance as the process of `app` knows it, as after a restart.
    #[must_use]
    pub fn at(self, app: &App) -> Self {
        Self { instance: app.instances.by_id(self.instance.id).expect("the instance is still there"), ..self }
    }

    /// The host of their instance.
    pub fn host(&self) -> String {
        format!("{}.example.com", self.handle)
    }

    /// The session on the app host.
    ///
    /// # Panics
    /// For an account that was inserted.
    pub fn session(&self) -> &str {
        self.session.as_ref().expect("a person who signed up").reveal()
    }

    /// The Cookie header of a request to the app host.
    pub fn app_cookie(&self) -> String {
        format!("__Host-berth={}", self.session())
    }

    /// The Cookie header of a request to their instance, from the last [`Person::hand_off`].
    ///
    /// # Panics
    /// Before the first hand-off.
    pub fn cookie(&self) -> &str {
        self.cookie.as_deref().expect("a person after a hand-off")
    }

    /// The instance token in their container.
    ///
    /// # Panics
    /// When the fixture that made the person did not wait for the container.
    pub fn token(&self) -> &str {
        self.token.as_deref().expect("a person with a container")
    }

    /// Opens a session on the host of their instance, and takes the instance as the process of `app` knows it.
    pub async fn hand_off(&mut self, app: &App) {
        self.cookie = Some(self.cookie_for(&app.accounts, &self.host()).await);
        self.instance = app.instances.by_id(self.instance.id).expect("the instance is still there");
    }

    /// A Cookie header for the host of any instance that the person may enter, from a hand-off.
    pub async fn cookie_for(&self, accounts: &Accounts, host: &str) -> String {
        let session = accounts.authenticate("app.example.com", self.session()).await.unwrap().unwrap();
        let challenge = URL_SAFE_NO_PAD.encode(sha2::Sha256::digest("verifier"));
        let code = accounts.hand_off(&session, host, "state", &challenge).await.unwrap();
        let token = accounts.hand_off_redeem(host, code.reveal(), "state", "verifier", &somebody()).await.unwrap();
        format!("__Host-berth={}", token.expect("a fresh code is valid").reveal())
    }
}

async fn insert_account(app: &App, handle: &Handle) -> InstanceId {
    let account = AccountId(app.clock.uuid());
    let tx = app.db.begin().await.unwrap();
    let id = match tx.get_database_backend() {
        sea_orm::DbBackend::Sqlite => format!("x'{}'", account.0.simple()),
        _ => format!("'{account}'"),
    };
    // No secret: one that does not decrypt would be a reason not to start.
    let secret = if id.starts_with('x') { "x''" } else { "'\\x'" };
    tx.execute_unprepared(&format!(
        "INSERT INTO accounts (id, handle, skeleton, role, state, totp_secret, totp_last_step, totp_failures,
            totp_blocked_until_ms, created_at_ms)
         VALUES ({id}, '{handle}', '{}', 'member', 'active', {secret}, 0, 0, 0, 0)",
        handle.skeleton()
    ))
    .await
    .unwrap();
    let id = app.instances.create_in(&tx, account, handle).await.unwrap();
    tx.commit().await.unwrap();
    id
}
