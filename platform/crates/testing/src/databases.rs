//! Database fixtures, empty and with the schema in place: SQLite always, PostgreSQL wherever Debian's package is
//! installed.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use berth::db::Db;

/// One empty database; it goes when this is dropped, or with the process.
pub struct Database {
    /// `SQLite` or `PostgreSQL`.
    pub kind: &'static str,
    pub url: String,
    pub db: Db,
    dir: tempfile::TempDir,
}

impl Database {
    /// Another of the same kind, elsewhere.
    pub fn moved_to(self, url: String, db: Db) -> Self {
        Self { url, db, ..self }
    }

    /// A directory that belongs to this database alone.
    pub fn dir(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }
}

/// One database of each kind. A test that loops over them runs on both.
pub async fn databases() -> Vec<Database> {
    let mut all = vec![sqlite().await];
    all.extend(postgres().await);
    all
}

/// An empty SQLite file.
pub async fn sqlite() -> Database {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("berth.db").display());
    Database { kind: "SQLite", db: Db::open_and_migrate(&url).await.unwrap(), url, dir }
}

/// The URL of a database of each kind without a schema, for tests of migrations. SQLite's file is made in `dir`.
pub fn urls_without_schema(dir: &Path) -> Vec<String> {
    let mut urls = vec![format!("sqlite:{}?mode=rwc", dir.join("without-schema.db").display())];
    urls.extend(postgres_url());
    urls
}

/// An empty database in this process's own PostgreSQL; `None` where PostgreSQL is not installed.
pub async fn postgres() -> Option<Database> {
    let url = postgres_url()?;
    let db = Db::open_and_migrate(&url).await.unwrap();
    Some(Database { kind: "PostgreSQL", url, db, dir: tempfile::tempdir().unwrap() })
}

fn postgres_url() -> Option<String> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let cluster = CLUSTER.get_or_init(Cluster::start).as_ref()?;
    Some(cluster.create(&format!("story{}", NEXT.fetch_add(1, Ordering::Relaxed))))
}

/// A PostgreSQL that listens on a unix socket only and is thrown away when this process ends, however it ends.
struct Cluster {
    bin: PathBuf,
    socket_dir: String,
    /// The keeper process and its stdin pipe: at end of file on it, the keeper stops the server and removes its files.
    _keeper: Child,
}

/// Starts a cluster in `$1` with the programs in `$2` and says so; when its input ends, stops and removes it.
/// PostgreSQL refuses to run as root, hence the other user.
const KEEPER: &str = r#"
as() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
cd "$1" || exit 1
[ "$(id -u)" = 0 ] && chown postgres "$1"
as "$2/initdb" -D "$1/data" -A trust -U berth -E UTF8 --locale=C --no-sync >"$1/initdb.log" 2>&1 &&
as "$2/pg_ctl" -D "$1/data" -w -l "$1/server.log" -o "-k $1 -h '' -F -c max_connections=400" start >"$1/start.log" 2>&1 &&
echo ready || { cat "$1"/*.log >&2; echo failed; exit 1; }
cat >/dev/null
as "$2/pg_ctl" -D "$1/data" -m immediate stop >/dev/null 2>&1
cd / && rm -rf "$1"
"#;

impl Cluster {
    fn start() -> Option<Self> {
        let bin = newest_postgres()?;
        // The keeper removes it: a static is never dropped.
        let dir = tempfile::tempdir().unwrap().keep();
        let socket_dir = dir.to_str().unwrap().to_owned();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", &socket_dir])
            .arg(&bin)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "PostgreSQL did not start; its log is in {socket_dir}");
        Some(Self { bin, socket_dir, _keeper: keeper })
    }

    fn create(&self, name: &str) -> String {
        let made = Command::new(self.bin.join("createdb")).args(["-h", &self.socket_dir, "-U", "berth", name]).status();
        assert!(made.unwrap().success(), "createdb {name} failed");
        format!("postgres://berth@localhost/{name}?host={}", self.socket_dir)
    }
}

fn newest_postgres() -> Option<PathBuf> {
    let installed = std::fs::read_dir(Path::new("/usr/lib/postgresql")).ok()?;
    let mut bins: Vec<PathBuf> = installed.flatten().map(|entry| entry.path().join("bin")).collect();
    bins.retain(|bin| bin.join("initdb").exists());
    bins.sort();
    bins.pop()
}
