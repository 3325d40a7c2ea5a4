//! The invariants after every kill, checked in the Engine and in the database, not through Berth.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use berth::db::Db;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::Value;

use super::killable_platform::{ENGINE, NETWORK};
use berth_testing::tenant_image::try_docker;

/// A row of the ledger.
#[derive(Debug)]
pub struct Row {
    pub id: String,
    pub wish: String,
    pub fact: String,
    token_hash: String,
    failure: Option<String>,
}

/// The state of the Engine and of the database at one moment.
pub struct Snapshot {
    pub rows: BTreeMap<String, Row>,
    accounts: i64,
    money: Money,
    containers: Vec<Value>,
    volumes: BTreeSet<String>,
    networks: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Money {
    spent: i64,
    days: i64,
    receipts: i64,
}

impl Snapshot {
    /// `Err` when either changes while it is read.
    pub async fn take(ledger: &Db) -> anyhow::Result<Self> {
        let (rows, accounts, money) =
            (rows(ledger).await?, number(ledger, "SELECT count(*) FROM accounts").await?, money(ledger).await?);
        let label = format!("label=berth.installation={NETWORK}");
        let ask = |words: &[&str]| try_docker(ENGINE.as_ref(), words).context("the Engine's answer");
        let ids = ask(&["ps", "-aq", "--no-trunc", "--filter", &label])?;
        let mut inspect = vec!["inspect"];
        inspect.extend(ids.split_whitespace());
        let containers = if inspect.len() > 1 { serde_json::from_str(&ask(&inspect)?)? } else { Vec::new() };
        let volumes = ask(&["volume", "ls", "-q", "--filter", &label])?;
        let networks = ask(&["network", "ls", "-q", "--filter", &label])?.lines().count();
        Ok(Self { rows, accounts, money, containers, volumes: volumes.lines().map(str::to_owned).collect(), networks })
    }

    /// A sentence for each invariant that does not hold once every instance is at rest.
    pub fn violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let by_id: BTreeMap<&str, (&String, &Row)> =
            self.rows.iter().map(|(h, row)| (row.id.as_str(), (h, row))).collect();
        let mut there: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        let mut addresses = BTreeSet::new();
        for container in &self.containers {
            let labels = &container["Config"]["Labels"];
            let id = labels["berth.instance"].as_str().unwrap_or_default();
            there.entry(id).or_default().push(container);
            match by_id.get(id) {
                None => violations.push(format!("an orphan: container {}", container["Name"])),
                Some((handle, row)) if labels["berth.token-hash"].as_str() != Some(&row.token_hash) => {
                    violations.push(format!("{handle}'s container holds another token than the ledger"));
                }
                Some(_) => {}
            }
            let address = &container["NetworkSettings"]["Networks"][format!("{NETWORK}0")]["IPAddress"];
            if container["State"]["Running"] == true && !addresses.insert(address.to_string()) {
                violations.push(format!("two containers have the address {address}"));
            }
        }
        for (handle, row) in &self.rows {
            let ours = there.get(row.id.as_str()).map_or(&[][..], Vec::as_slice);
            if ours.len() > 1 {
                violations.push(format!("{handle} has {} containers", ours.len()));
            }
            let actual =
                ours.first().map_or("none", |container| container["State"]["Status"].as_str().unwrap_or_default());
            if !agrees(&row.fact, actual) {
                violations.push(format!(
                    "{handle} is {} in the ledger and {actual} in the Engine ({:?})",
                    row.fact, row.failure
                ));
            }
            if !fulfils(&row.wish, actual) {
                violations.push(format!("{handle} was wished {} and is {actual}", row.wish));
            }
        }
        for volume in &self.volumes {
            if !by_id.contains_key(volume.trim_start_matches(&format!("{NETWORK}-"))) {
                violations.push(format!("an orphan: volume {volume}"));
            }
        }
        if self.accounts != i64::try_from(self.rows.len()).unwrap() {
            violations.push(format!("{} accounts have {} instances", self.accounts, self.rows.len()));
        }
        if self.networks != 1 {
            violations.push(format!("{} bridges instead of one", self.networks));
        }
        let money = &self.money;
        if money.spent != money.receipts || money.days != money.receipts {
            violations.push(format!("the money does not add up: {money:?}"));
        }
        violations
    }

    pub fn has_volume(&self, handle: &str) -> bool {
        self.rows.get(handle).is_some_and(|row| self.volumes.contains(&format!("{NETWORK}-{}", row.id)))
    }
}

/// Whether a fact at rest agrees with the state in the Engine.
fn agrees(fact: &str, actual: &str) -> bool {
    match fact {
        "awake" => actual == "running",
        "frozen" => actual == "paused",
        "stopped" => matches!(actual, "exited" | "created"),
        "absent" | "removed" => actual == "none",
        _ => false,
    }
}

fn fulfils(wish: &str, actual: &str) -> bool {
    match wish {
        "frozen" => actual != "running",
        "stopped" | "suspended" => matches!(actual, "exited" | "created" | "none"),
        "removed" => actual == "none",
        _ => true,
    }
}

async fn rows(ledger: &Db) -> anyhow::Result<BTreeMap<String, Row>> {
    let sql = "SELECT lower(hex(id)) AS id, handle, wish, fact, lower(hex(coalesce(token_hash, ''))) AS token_hash, failure FROM instances";
    let rows = ledger.read().query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await?;
    rows.into_iter()
        .map(|row| {
            let text = |name: &str| row.try_get::<String>("", name);
            let id = uuid::Uuid::parse_str(&text("id")?)?.to_string();
            let failure = row.try_get::<Option<String>>("", "failure")?;
            Ok((
                text("handle")?,
                Row { id, wish: text("wish")?, fact: text("fact")?, token_hash: text("token_hash")?, failure },
            ))
        })
        .collect()
}

/// The fact of an instance in the database; empty when there is no row.
pub async fn fact(ledger: &Db, handle: &str) -> anyhow::Result<String> {
    Ok(rows(ledger).await?.remove(handle).map(|row| row.fact).unwrap_or_default())
}

async fn money(ledger: &Db) -> anyhow::Result<Money> {
    Ok(Money {
        spent: number(ledger, "SELECT coalesce(sum(spent_nanodollars), 0) FROM allowances").await?,
        days: number(ledger, "SELECT coalesce(sum(amount_nanodollars), 0) FROM spend_days").await?,
        receipts: number(ledger, "SELECT coalesce(sum(amount_nanodollars), 0) FROM receipts").await?,
    })
}

async fn number(ledger: &Db, sql: &str) -> anyhow::Result<i64> {
    let row = ledger.read().query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await?;
    Ok(row.ok_or_else(|| anyhow::anyhow!("no answer"))?.try_get_by_index(0)?)
}
