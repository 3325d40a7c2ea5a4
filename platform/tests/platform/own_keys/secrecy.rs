//! Own keys at rest: encrypted in the database, and absent from every log and journal.

use std::io::Write;
use std::sync::{Arc, Mutex};

use berth::app::App;
use berth::db::AccountId;
use sea_orm::{ConnectionTrait as _, Statement};

use super::*;

/// A log writer that collects everything, to be searched for a secret.
#[derive(Clone, Default)]
struct LogBuffer(Arc<Mutex<Vec<u8>>>);

impl Write for LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// Single-threaded: the subscriber that collects the log is set for this thread only.
#[tokio::test]
async fn a_key_is_encrypted_in_the_database_and_absent_from_log_and_journal() {
    for database in databases().await {
        let log = LogBuffer::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        let _reading = tracing::subscriber::set_default(subscriber);
        let (world, provider) = world_with(database, |_| ()).await;
        let alice = world.person("alice").await;
        has_key(&world, &alice, "anthropic", ALICES).await;
        provider.will_answer([answer(), CannedResponse::error(401, &[], "{}")]);
        for _ in 0..2 {
            alice.post(&world, MESSAGES, &message("berth-demo")).send().await.unwrap();
        }
        has_spent_nothing(&world, &alice).await;
        let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
        assert!(log.contains("a provider refused an account's own key"), "the log was not read");
        let journal = std::fs::read_to_string(world.app.config.data_dir.join("quota/journal")).unwrap();
        assert!(journal.contains("own_key") && !journal.contains(ALICES) && !log.contains(ALICES), "{}", world.kind());
        let (account, sealed) = sealed(&world.app).await;
        assert_eq!(account, alice.instance.account);
        let holds = |part: &str| sealed.windows(part.len()).any(|window| window == part.as_bytes());
        assert!(!holds(ALICES) && !holds("alices"), "{}", world.kind());
        // It decrypts for its account and its provider only.
        let keys = InstallationKeys::derive(&world.app.config.secret, world.clock.clone());
        let associated_data = |account: AccountId, provider: &str| [account.0.as_bytes(), provider.as_bytes()].concat();
        assert_eq!(keys.open(&associated_data(account, "anthropic"), &sealed).unwrap().as_slice(), ALICES.as_bytes());
        let another = AccountId(world.clock.uuid());
        assert!(keys.open(&associated_data(another, "anthropic"), &sealed).is_err());
        assert!(keys.open(&associated_data(account, "openai"), &sealed).is_err());
    }
}

/// The only row of `own_keys`.
async fn sealed(app: &App) -> (AccountId, Vec<u8>) {
    let db = app.db.read();
    let sql = Statement::from_string(db.get_database_backend(), "SELECT account_id, sealed FROM own_keys");
    let row = db.query_one_raw(sql).await.unwrap().unwrap();
    (row.try_get("", "account_id").unwrap(), row.try_get("", "sealed").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_key_cannot_be_decrypted_no_other_key_is_used() {
    let database = sqlite().await;
    let (world, provider) = world_with(database, |_| ()).await;
    let alice = world.person("alice").await;
    has_key(&world, &alice, "anthropic", ALICES).await;
    // The ciphertext is copied into the row of another provider, whose associated data it does not match.
    let tx = world.app.db.begin().await.unwrap();
    tx.execute_unprepared("UPDATE own_keys SET provider = 'openai'").await.unwrap();
    tx.commit().await.unwrap();
    let mut app = world.app.clone();
    app.own_keys = reopened(&world).await;
    let running = tokio_util::sync::CancellationToken::new();
    let proxy = berth_testing::process::serve(berth::llm::router(app), &running).await;
    let refused = alice.post_by(proxy, COMPLETIONS, &completion(&value!({}))).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert!(json(refused).await["error"]["message"].as_str().unwrap().contains("cannot be read"));
    assert!(provider.requests().is_empty() && world.served().await["calls"] == 0);
    has_spent_nothing(&world, &alice).await;
}
