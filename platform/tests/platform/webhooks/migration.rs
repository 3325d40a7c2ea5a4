//! The migration that renamed mail and letters to webhooks: rows from before it are kept and delivered.

use berth::db::{Db, InstanceId};
use berth::webhooks::{DeliveryState, InboxCounts, PathSuffix, WebhookRequest, Webhooks};
use berth_ground::clock::{Clock, Timestamp};
use migrations::{Migrator, MigratorTrait as _};
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement};
use uuid::Uuid;

use berth_testing::START;
use berth_testing::databases::urls_without_schema;

/// The last migration before the renaming.
const BEFORE: u32 = 18;
/// `@N` stands for an id, `#text#` for bytes.
const OLD_ROWS: [&str; 8] = [
    "INSERT INTO accounts (id, handle, skeleton, role, state, totp_secret, totp_last_step, totp_failures,
        totp_blocked_until_ms, created_at_ms) VALUES (@1, 'alice', 'alice', 'member', 'active', #secret#, 0, 0, 0, 0)",
    "INSERT INTO instances (id, account_id, handle, slot, image, wish, wish_cause, wish_at_ms, fact, fact_cause, fact_at_ms,
        active_at_ms, last_work, created_at_ms)
        VALUES (@2, @1, 'alice', 0, 'image', 'available', 'mail', 0, 'awake', 'mail', 0, 0, 'letter', 0)",
    "INSERT INTO transitions (id, instance_id, at_ms, from_fact, to_fact, cause, last_work)
        VALUES (@3, @2, 0, 'stopped', 'awake', 'mail', 'letter')",
    "INSERT INTO mail_paths VALUES (@2, '/hooks/github', 7)",
    "INSERT INTO letters VALUES (@4, @2, 3, NULL, 'POST', '/hooks/github', '/hooks/github?x=1', '[[\"x-a\",\"b\"]]', #waits#, 40,
        'waiting', 2, 10, 20, 9000000000000, NULL, '503')",
    "INSERT INTO letters VALUES (@5, @2, 4, NULL, 'PUT', '/hooks/github', '/hooks/github', '[]', #failed#, 20,
        'failed', 9, 11, 21, 31, 41, '500')",
    "INSERT INTO letters VALUES (@6, @2, 5, NULL, 'POST', '/hooks/github', '/hooks/github', '[]', ##, 30,
        'delivered', 1, 12, 22, 32, 42, '200')",
    "INSERT INTO letters VALUES (@7, @2, 6, 'nightly', '', '', NULL, '[]', ##, 0,
        'waiting', 0, 13, 23, 9000000000000, NULL, NULL)",
];

/// Writes the placeholders of a statement in the literals of the database.
fn with_literals(statement: &str, backend: DbBackend) -> String {
    let is_sqlite = backend == DbBackend::Sqlite;
    let mut text = String::new();
    for (n, part) in statement.split('#').enumerate() {
        if n % 2 == 0 {
            text.push_str(part);
        } else {
            let hex: String = part.bytes().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&if is_sqlite { format!("X'{hex}'") } else { format!("'\\x{hex}'::bytea") });
        }
    }
    for n in 1..9 {
        let id = if is_sqlite { format!("X'{n:032x}'") } else { format!("'{}'", Uuid::from_u128(n)) };
        text = text.replace(&format!("@{n}"), &id);
    }
    text
}

async fn words(connection: &DatabaseConnection, query: &str) -> Vec<String> {
    let rows =
        connection.query_all_raw(Statement::from_string(connection.get_database_backend(), query)).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

#[tokio::test]
async fn rows_from_before_the_renaming_are_kept_and_delivered() {
    let dir = tempfile::tempdir().unwrap();
    for url in urls_without_schema(dir.path()) {
        let connection = Database::connect(&url).await.unwrap();
        Migrator::up(&connection, Some(BEFORE)).await.unwrap();
        for statement in OLD_ROWS {
            let statement = with_literals(statement, connection.get_database_backend());
            connection.execute_unprepared(&statement).await.unwrap();
        }
        let db = Db::open_and_migrate(&url).await.unwrap();
        let webhooks = Webhooks::open(db, Clock::manual(START)).await.unwrap();
        let id = |n| InstanceId(Uuid::from_u128(n));

        let paths = webhooks.paths(id(2));
        assert_eq!(
            (paths.len(), paths[0].path.as_str(), paths[0].opened_at),
            (1, "/hooks/github", Timestamp(7)),
            "{url}"
        );
        assert_eq!(webhooks.counts(id(2)), InboxCounts { waiting: 2, dead_letters: 1, bytes: 60 });
        for (state, listed) in [
            (DeliveryState::Waiting, vec![(7, 0, None), (4, 2, Some("503"))]),
            (DeliveryState::DeadLetter, vec![(5, 9, Some("500"))]),
            (DeliveryState::Delivered, vec![(6, 1, Some("200"))]),
        ] {
            let views = webhooks.deliveries(id(2), state, 9).await.unwrap();
            let seen: Vec<_> =
                views.iter().map(|view| (view.id.0.as_u128(), view.attempts, view.last_result.as_deref())).collect();
            assert_eq!(seen, listed, "{state:?}");
        }

        // What is enqueued from now on comes after it.
        webhooks.open_path(id(2), "/hooks/other", PathSuffix::None).await.unwrap();
        let (target, headers) = ("/hooks/github".to_owned(), Vec::new());
        let request = WebhookRequest { method: "POST".into(), target, headers, body: "new".into() };
        let new = webhooks.enqueue(id(2), request).await.unwrap();
        assert_eq!(webhooks.take_due(), [id(2)]);
        let due = webhooks.due_deliveries(id(2)).await.unwrap();
        let order: Vec<u128> = due.deliveries.iter().map(|(delivery, _)| delivery.0.as_u128()).collect();
        assert_eq!((order, due.has_new_alarm), (vec![4, 7, new.0.as_u128()], true));
        let attempt = webhooks.begin_attempt(due.deliveries[0].0).await.unwrap().expect("it waits");
        let request = attempt.delivery.request.expect("it has a request");
        assert_eq!(
            (attempt.number, &request.body[..], request.target.as_str()),
            (3, &b"waits"[..], "/hooks/github?x=1")
        );
        assert_eq!(request.headers, [("x-a".to_owned(), "b".to_owned())]);

        let causes = "SELECT cause FROM transitions UNION ALL SELECT wish_cause FROM instances
            UNION ALL SELECT fact_cause FROM instances UNION ALL SELECT last_work FROM instances
            UNION ALL SELECT last_work FROM transitions";
        assert_eq!(words(&connection, causes).await, ["webhook"; 5]);
    }
}
