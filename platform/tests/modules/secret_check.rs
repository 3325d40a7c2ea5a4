//! BERTH_SECRET belongs to its database: with another one nothing starts, and a database from before the check takes
//! only a secret that decrypts what it holds.

use std::sync::Arc;

use berth::app::App;
use berth::config::Config;
use berth::modules::Verdict;
use berth::ops::{SecretMatch, compare_secret};
use berth::own_keys::KeyOwner;
use berth::serve;
use berth_ground::handle::Handle;
use tokio_util::sync::CancellationToken;

use berth_testing::person::Person;
use berth_testing::{TestModules, config_at, databases};

/// Settings that differ in nothing but the secret, with ports that are free.
fn other_secret(platform: &TestModules) -> Config {
    let settings = [
        ("BERTH_SECRET", "another secret, also of 32 characters"),
        ("BERTH_LISTEN", "127.0.0.1:0"),
        ("BERTH_INTERNAL_LISTEN", "127.0.0.1:0"),
    ];
    config_at(&platform.config.database_url, platform.config.data_dir.to_str().unwrap(), &settings)
}

async fn app(platform: &TestModules, config: Config) -> App {
    App::on(platform.db.clone(), config, platform.clock.clone(), Arc::new(platform.host.clone())).await.unwrap()
}

async fn compare(app: &App) -> SecretMatch {
    compare_secret(&app.db, &app.modules, &app.config.secret).await.unwrap()
}

#[tokio::test]
async fn a_start_with_another_secret_is_refused_with_a_sentence_and_doctor_says_it_too() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let right = app(&platform, platform.config.clone()).await;
        right.confirm_secret().await.unwrap();
        right.confirm_secret().await.unwrap();
        assert_eq!(compare(&right).await, SecretMatch::Confirmed);

        let refused = serve::run(other_secret(&platform), CancellationToken::new()).await.unwrap_err().to_string();
        assert!(refused.starts_with("BERTH_SECRET is not the secret of this database"), "{refused}");
        assert!(refused.contains("Set BERTH_SECRET to that one"), "{refused}");
        for (config, verdict) in [(other_secret(&platform), Verdict::Broken), (platform.config.clone(), Verdict::Fine)]
        {
            let findings = App::examine(&config, platform.clock.clone(), Arc::new(platform.host.clone())).await;
            let secret = findings.iter().find(|finding| finding.subject == "secret").unwrap();
            assert_eq!(secret.verdict, verdict, "{secret:?}");
        }
        assert_eq!(compare(&right).await, SecretMatch::Confirmed, "a refused start records nothing");
    }
}

#[tokio::test]
async fn a_database_from_before_takes_only_a_secret_that_decrypts_what_it_holds() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let right = app(&platform, platform.config.clone()).await;
        let alice = Person::sign_up(&right, "alice").await.instance.account;
        let wrong = app(&platform, other_secret(&platform)).await;
        assert_eq!((compare(&right).await, compare(&wrong).await), (SecretMatch::Unrecorded, SecretMatch::Mismatch));
        assert!(wrong.confirm_secret().await.is_err());
        assert_eq!(compare(&right).await, SecretMatch::Unrecorded, "a refused start records nothing");

        // An own key counts like a one-time-code secret: one value that opens shows that the secret was in use.
        let owner = KeyOwner { account: alice, handle: &Handle::parse("alice").unwrap() };
        wrong.own_keys.set(owner, "openai", "sk-a-key-of-another-secret").await.unwrap();
        assert_eq!(compare(&wrong).await, SecretMatch::Unrecorded);
        right.confirm_secret().await.unwrap();
        assert_eq!((compare(&right).await, compare(&wrong).await), (SecretMatch::Confirmed, SecretMatch::Mismatch));
    }
}
