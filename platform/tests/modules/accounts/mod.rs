//! Accounts: signing up, logging in and out, recovering, being handed off, being suspended. Each story is told on every
//! kind of database.

mod hand_off;
mod leaving;
mod log_in;
mod operator;
mod recovery;
mod sessions;
mod sign_up;

use berth::accounts::{LogIn, Session, SignUpStep, SignedIn};
use berth::client::Client;
use berth::error::{Error, Result};
use berth::secrets::Token;
use futures_util::future::join_all;
use sea_orm::{ConnectionTrait as _, Statement};

use berth_testing::passkey_browser::{OneTimeCodeApp, PasskeyBrowser};
use berth_testing::{TestModules, databases, somebody, sqlite};

/// Somebody with an account, and everything they hold.
struct Member {
    browser: PasskeyBrowser,
    app: OneTimeCodeApp,
    recovery_codes: Vec<String>,
    signed_in: SignedIn,
}

/// Signs up with `handle`, from beginning to end.
async fn sign_up(house: &TestModules, handle: &str) -> Member {
    let token = house.accounts.sign_up_begin(handle, None, None, &somebody()).await.unwrap();
    finish_sign_up(house, token.reveal()).await
}

/// Signs up the operator, with the set-up link.
async fn sign_up_operator(house: &TestModules) -> Member {
    let link = house.accounts.setup_link().await.unwrap();
    let token = house.accounts.sign_up_begin("olivia", None, Some(link.reveal()), &somebody()).await.unwrap();
    finish_sign_up(house, token.reveal()).await
}

async fn finish_sign_up(house: &TestModules, token: &str) -> Member {
    let (browser, app, recovery_codes) = prepare_sign_up(house, token).await;
    let (signed_in, _) = house.accounts.sign_up_finish(token, &somebody()).await.unwrap();
    Member { browser, app, recovery_codes, signed_in }
}

/// Everything up to the last button.
async fn prepare_sign_up(house: &TestModules, token: &str) -> (PasskeyBrowser, OneTimeCodeApp, Vec<String>) {
    prepare_sign_up_with(house, token, PasskeyBrowser::at_home()).await
}

async fn prepare_sign_up_with(
    house: &TestModules,
    token: &str,
    mut browser: PasskeyBrowser,
) -> (PasskeyBrowser, OneTimeCodeApp, Vec<String>) {
    let options = house.accounts.sign_up_passkey_challenge(token).await.unwrap();
    let answer = browser.create(&options).await;
    house.accounts.sign_up_passkey(token, answer).await.unwrap();
    let SignUpStep::OneTimeCode { secret, .. } = house.accounts.sign_up(token).await.unwrap().step else {
        panic!("a one-time code is not what comes next")
    };
    let app = OneTimeCodeApp::with(&secret);
    house.accounts.sign_up_code(token, &app.code(&house.clock)).await.unwrap();
    let SignUpStep::RecoveryCodes(codes) = house.accounts.sign_up(token).await.unwrap().step else {
        panic!("recovery codes are not what comes next")
    };
    (browser, app, codes)
}

/// Logs in with the passkey, from a browser that brings `device`.
async fn log_in(house: &TestModules, browser: &PasskeyBrowser, device: Option<&Token>) -> Result<LogIn> {
    let (token, options) = house.accounts.log_in_challenge(&somebody()).await.unwrap();
    let answer = browser.get(&options).await;
    house.accounts.log_in(token.reveal(), answer, device.map(Token::reveal), &somebody()).await
}

/// Logs in with the passkey on a new device; the token of the login that waits for its code.
async fn half_way_in(house: &TestModules, member: &Member) -> Token {
    match log_in(house, &member.browser, None).await.unwrap() {
        LogIn::CodeNeeded(token) => token,
        LogIn::SignedIn(_) => panic!("no code was asked for on a new device"),
    }
}

/// The session behind a cookie of the app host.
async fn session(house: &TestModules, token: &Token) -> Option<Session> {
    house.accounts.authenticate(&house.config.hosts.app, token.reveal()).await.unwrap()
}

/// What the audit says, oldest first: "actor action subject".
async fn audit(house: &TestModules) -> Vec<String> {
    let db = house.db.read();
    let text = "SELECT actor, action, subject FROM audit ORDER BY at_ms";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), text)).await.unwrap();
    let word = |row: &sea_orm::QueryResult, name| row.try_get::<String>("", name).unwrap();
    rows.iter().map(|r| format!("{} {} {}", word(r, "actor"), word(r, "action"), word(r, "subject"))).collect()
}

/// The sentence a person reads.
fn sentence<T>(result: Result<T>) -> String {
    result.err().expect("this should have been refused").to_string()
}
