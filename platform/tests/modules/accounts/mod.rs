//! Accounts: sign-up, login, logout, recovery, hand-off, suspension, deletion. The tests run on every supported
//! database.

mod deletion;
mod hand_off;
mod log_in;
mod operator;
mod recovery;
mod sessions;
mod sign_up;

use berth::accounts::{LogInOutcome, NewSession, Session, SignUpStep};
use berth_ground::error::{Error, Result};
use berth_ground::secrets::Token;
use berth_net::peer::Client;
use futures_util::future::join_all;
use sea_orm::{ConnectionTrait as _, Statement};

use berth_testing::passkey_browser::{OneTimeCodeApp, PasskeyBrowser};
use berth_testing::{TestModules, databases, somebody, sqlite};

/// A person with an account, and all of their credentials.
struct Member {
    browser: PasskeyBrowser,
    app: OneTimeCodeApp,
    recovery_codes: Vec<String>,
    signed_in: NewSession,
}

/// Completes a sign-up with `handle`.
async fn sign_up(platform: &TestModules, handle: &str) -> Member {
    let token = platform.accounts.sign_up_begin(handle, None, None, &somebody()).await.unwrap();
    finish_sign_up(platform, token.reveal()).await
}

/// Completes the operator's sign-up with a set-up link.
async fn sign_up_operator(platform: &TestModules) -> Member {
    let link = platform.accounts.setup_link().await.unwrap();
    let token = platform.accounts.sign_up_begin("olivia", None, Some(link.reveal()), &somebody()).await.unwrap();
    finish_sign_up(platform, token.reveal()).await
}

async fn finish_sign_up(platform: &TestModules, token: &str) -> Member {
    let (browser, app, recovery_codes) = prepare_sign_up(platform, token).await;
    let (signed_in, _) = platform.accounts.sign_up_finish(token, &somebody()).await.unwrap();
    Member { browser, app, recovery_codes, signed_in }
}

/// Every step of a sign-up except the last.
async fn prepare_sign_up(platform: &TestModules, token: &str) -> (PasskeyBrowser, OneTimeCodeApp, Vec<String>) {
    prepare_sign_up_with(platform, token, PasskeyBrowser::at_home()).await
}

async fn prepare_sign_up_with(
    platform: &TestModules,
    token: &str,
    mut browser: PasskeyBrowser,
) -> (PasskeyBrowser, OneTimeCodeApp, Vec<String>) {
    let options = platform.accounts.sign_up_passkey_challenge(token).await.unwrap();
    let answer = browser.create(&options).await;
    platform.accounts.sign_up_passkey(token, answer).await.unwrap();
    let SignUpStep::OneTimeCode { secret, .. } = platform.accounts.sign_up(token).await.unwrap().step else {
        panic!("the next step is not the one-time code")
    };
    let app = OneTimeCodeApp::with(&secret);
    platform.accounts.sign_up_code(token, &app.code(&platform.clock)).await.unwrap();
    let SignUpStep::RecoveryCodes(codes) = platform.accounts.sign_up(token).await.unwrap().step else {
        panic!("the next step is not the recovery codes")
    };
    (browser, app, codes)
}

/// Logs in with the passkey, with `device` as the browser's device cookie.
async fn log_in(platform: &TestModules, browser: &PasskeyBrowser, device: Option<&Token>) -> Result<LogInOutcome> {
    let (token, options) = platform.accounts.log_in_challenge(&somebody()).await.unwrap();
    let answer = browser.get(&options).await;
    platform.accounts.log_in(token.reveal(), answer, device.map(Token::reveal), &somebody()).await
}

/// Logs in with the passkey on a new device. Returns the token of the pending login.
async fn pending_log_in(platform: &TestModules, member: &Member) -> Token {
    match log_in(platform, &member.browser, None).await.unwrap() {
        LogInOutcome::CodeRequired(token) => token,
        LogInOutcome::Complete(_) => panic!("no code was required on a new device"),
    }
}

/// The session of a cookie on the app host.
async fn session(platform: &TestModules, token: &Token) -> Option<Session> {
    platform.accounts.authenticate(&platform.config.hosts.app, token.reveal()).await.unwrap()
}

/// The audit log, oldest first, as "actor action subject".
async fn audit(platform: &TestModules) -> Vec<String> {
    let db = platform.db.read();
    let text = "SELECT actor, action, subject FROM audit ORDER BY at_ms";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), text)).await.unwrap();
    let word = |row: &sea_orm::QueryResult, name| row.try_get::<String>("", name).unwrap();
    rows.iter().map(|r| format!("{} {} {}", word(r, "actor"), word(r, "action"), word(r, "subject"))).collect()
}

/// The text of an error, as shown to a person.
fn sentence<T>(result: Result<T>) -> String {
    result.err().expect("this should have been refused").to_string()
}
