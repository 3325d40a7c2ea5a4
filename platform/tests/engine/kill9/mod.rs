//! The platform and the provisioner are killed, again and again, at every call from one process to another, while
//! people sign up, wake, sleep, stop, call models and are removed. After each restart every acknowledged change holds.

mod http_browser;
mod invariants;
mod killable_platform;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use berth::app::App;
use berth::control_socket;
use berth::db::Db;
use berth::instances::{Cause, Wish};
use berth_containers::remote::RemoteHost;
use berth_ground::clock::Clock;
use berth_ground::error::Error;
use berth_ground::handle::Handle;

use self::http_browser::HttpBrowser;
use self::invariants::Snapshot;
use self::killable_platform::{KillablePlatform, Part};
use berth_testing::fault_proxy::{Deed, FaultGate, FaultTiming};
use berth_testing::soak::SoakTest;
use berth_testing::tenant_image;
use berth_testing::wait::Wait;

/// The provisioner's requests to the Engine while instances come and go.
const ENGINE_REQUESTS: [&str; 13] = [
    "container.create",
    "container.inspect",
    "container.start",
    "container.stop",
    "container.pause",
    "container.unpause",
    "container.remove",
    "containers.list",
    "image.inspect",
    "volume.create",
    "volume.inspect",
    "volumes.list",
    "events",
];
/// The platform's requests to the provisioner.
const PROVISIONER_REQUESTS: [&str; 11] = [
    "ensure_networks",
    "ensure_volume",
    "create",
    "start",
    "freeze",
    "thaw",
    "stop",
    "remove_container",
    "inspect",
    "list",
    "events",
];
/// Requests that the platform makes when it starts, and seldom later.
const REQUESTS_AT_START: [&str; 5] = ["ensure_networks", "events", "list", "containers.list", "volumes.list"];
/// The number of people after which no more sign up.
const MOST_PEOPLE: usize = 60;
/// How long to wait for the injection point to be reached; the processes are killed in any case.
const POINT_TIMEOUT: Duration = Duration::from_secs(6);
/// After a restart every invariant holds within this time.
const CONVERGENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// The browser of a person, and the state that the platform must have for them.
struct PersonRecord {
    browser: HttpBrowser,
    /// The wish in the database is one of these; several after a request without an answer.
    possible_wishes: BTreeSet<&'static str>,
    /// Checksum of the file in their volume; `None` before the file is written.
    checksum: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Point {
    Engine(&'static str, FaultTiming),
    Provisioner(&'static str, FaultTiming),
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kills_at_any_point_every_acknowledged_change_holds() {
    let mut long = SoakTest::story("kill9");
    let rounds = long.count(6, 200);
    let mut platform = KillablePlatform::open().await;
    let ledger = platform.ledger().await;
    let mut records: BTreeMap<String, PersonRecord> = BTreeMap::new();
    for _ in Act::ALL {
        sign_up(&platform, &mut records).await;
    }
    until_converged(&platform, &ledger, &mut records).await;

    let (mut points, mut met) = (Vec::new(), BTreeSet::new());
    for round in 1..=rounds {
        if points.is_empty() {
            points = every_point();
            long.shuffle(&mut points);
        }
        let point = points.pop().unwrap();
        let (hit, killed) = kill_round(&mut platform, &ledger, &mut long, point, &mut records).await;
        if hit {
            met.insert(format!("{point:?}"));
        }
        platform.start().await;
        until_converged(&platform, &ledger, &mut records).await;
        long.say(&format!(
            "{round}/{rounds}: {point:?} {}, killed {killed:?}; {} points met, {} people",
            if hit { "met" } else { "not met" },
            met.len(),
            records.len()
        ));
    }
    assert_every_file_is_whole(&platform, &mut records).await;
    assert!(!long.is_whole() || met.len() >= 30, "only {} points were met", met.len());
    long.say(&format!(
        "{rounds} rounds, {} different points met: 0 orphans, 0 lost changes, 0 duplicates, every file whole",
        met.len()
    ));
}

/// One round: a hold at `point`, concurrent requests by several people, and a kill once a request is held there.
/// Returns whether the point was reached, and the processes that were killed.
async fn kill_round(
    platform: &mut KillablePlatform,
    ledger: &Db,
    long: &mut SoakTest,
    point: Point,
    records: &mut BTreeMap<String, PersonRecord>,
) -> (bool, Vec<Part>) {
    let people = prepare(platform, ledger, long, records).await;
    if long.below(2) == 0 {
        // Instances that start in this round are upgraded as well.
        tenant_image::make_image(killable_platform::IMAGE, killable_platform::ENGINE.as_ref());
    }
    let hold = FaultGate::default();
    let (proxy, name, moment) = match point {
        Point::Engine(name, moment) => (&platform.engine, name, moment),
        Point::Provisioner(name, moment) => (&platform.provisioner, name, moment),
    };
    proxy.points.once(name, moment, Deed::Hold(hold.clone()));
    if REQUESTS_AT_START.contains(&name) {
        platform.kill(Part::Platform);
        platform.begin_to_start();
    }
    let config = platform.config();
    let acts = people.into_iter().map(|(handle, act)| {
        let browser = records[&handle].browser.clone();
        let (config, pause) = (config.clone(), Duration::from_millis(long.below(400) as u64));
        async move {
            // Real time: the acts reach the platform at random moments before the kill.
            tokio::time::sleep(pause).await;
            act.done_by(browser, &handle, &config).await
        }
    });
    let acts = tokio::spawn(futures_util::future::join_all(acts.collect::<Vec<_>>()));
    // Only a new instance gets a volume.
    let comes = name.contains("volume") || long.below(4) == 0;
    let newcomer = (comes && records.len() < MOST_PEOPLE).then(|| HttpBrowser::new(next_handle(), platform.address()));
    let arrival = newcomer.map(|mut browser| {
        tokio::spawn(async move {
            let done = browser.sign_up().await;
            (browser, done)
        })
    });
    let met = hold.is_met_within(POINT_TIMEOUT).await;
    let killed =
        long.pick(&[&[Part::Platform][..], &[Part::Provisioner], &[Part::Platform, Part::Provisioner]]).to_vec();
    for part in &killed {
        platform.kill(*part);
    }
    // The request in flight reaches its receiver after its sender has died.
    hold.release();
    platform.engine.points.clear();
    platform.provisioner.points.clear();
    // Clients of a dead platform fail at once; clients of a live platform wait until the provisioner is back.
    if !killed.contains(&Part::Platform) {
        platform.start().await;
    }
    for (handle, possible_wishes) in acts.await.unwrap() {
        let record = records.get_mut(&handle).unwrap();
        match possible_wishes {
            WishAnswer::Rejected => {}
            WishAnswer::Acknowledged(wish) => record.possible_wishes = BTreeSet::from([wish]),
            WishAnswer::Unknown(wish) => drop(record.possible_wishes.insert(wish)),
        }
    }
    if let Some(arrival) = arrival {
        let (browser, done) = arrival.await.unwrap();
        if done.is_ok() {
            remember(records, browser);
        }
    }
    (met, killed)
}

/// Brings one instance for each act to the state in which that act has an effect.
async fn prepare(
    platform: &KillablePlatform,
    ledger: &Db,
    long: &mut SoakTest,
    records: &mut BTreeMap<String, PersonRecord>,
) -> Vec<(String, Act)> {
    let mut handles: Vec<String> = records.keys().cloned().collect();
    long.shuffle(&mut handles);
    let people: Vec<(String, Act)> = handles.into_iter().zip(Act::ALL).collect();
    let config = platform.config();
    let told = people.iter().map(|(handle, act)| {
        let sleep = match act.begins_from() {
            "frozen" => Some(Wish::Frozen),
            "stopped" => Some(Wish::Stopped),
            "removed" => Some(Wish::Removed),
            _ => None,
        };
        let config = &config;
        async move {
            // Only a running container can be frozen.
            operator(config, handle, OperatorCommand::Wake).await?;
            if let Some(how) = sleep {
                until_fact(ledger, handle, "awake").await;
                operator(config, handle, OperatorCommand::Sleep(how)).await?;
            }
            until_fact(ledger, handle, act.begins_from()).await;
            anyhow::Ok(())
        }
    });
    futures_util::future::try_join_all(told).await.unwrap();
    for (handle, act) in &people {
        let wish = if act.begins_from() == "awake" { "available" } else { act.begins_from() };
        records.get_mut(handle).unwrap().possible_wishes = BTreeSet::from([wish]);
    }
    people
}

async fn until_fact(ledger: &Db, handle: &str, fact: &str) {
    let wait = Wait::within(CONVERGENCE_TIMEOUT).every(Duration::from_millis(50));
    let has_come = async || invariants::fact(ledger, handle).await.unwrap() == fact;
    wait.until(&format!("{handle} is {fact}"), has_come).await;
}

/// The answer to a wish.
enum WishAnswer {
    Rejected,
    /// The platform acknowledged it.
    Acknowledged(&'static str),
    /// No answer arrived: the wish may have been written.
    Unknown(&'static str),
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Visit,
    Freeze,
    Wake,
    Call,
    Stop,
    Remove,
    WakeRemoved,
    Upgrade,
}

impl Act {
    const ALL: [Self; 8] =
        [Self::Visit, Self::Freeze, Self::Wake, Self::Call, Self::Stop, Self::Remove, Self::WakeRemoved, Self::Upgrade];

    /// The fact in which the act has an effect.
    fn begins_from(self) -> &'static str {
        match self {
            Self::Visit => "frozen",
            Self::Wake => "stopped",
            Self::Freeze | Self::Call | Self::Stop | Self::Remove | Self::Upgrade => "awake",
            Self::WakeRemoved => "removed",
        }
    }

    async fn done_by(
        self,
        mut browser: HttpBrowser,
        handle: &str,
        config: &berth::config::Config,
    ) -> (String, WishAnswer) {
        let answer = match self {
            // A visit acknowledges nothing: it writes a wish only when the instance is not available already.
            Self::Visit => {
                let _ = browser.visit("/count").await;
                WishAnswer::Unknown("available")
            }
            Self::Call => {
                let _ = browser.visit("/call").await;
                WishAnswer::Unknown("available")
            }
            Self::Freeze => answer_of("frozen", browser.wish("sleep").await),
            Self::Wake => answer_of("available", browser.wish("wake").await),
            Self::Stop => answer_of("stopped", operator(config, handle, OperatorCommand::Sleep(Wish::Stopped)).await),
            Self::Remove => answer_of("removed", operator(config, handle, OperatorCommand::Sleep(Wish::Removed)).await),
            Self::WakeRemoved => answer_of("available", operator(config, handle, OperatorCommand::Wake).await),
            Self::Upgrade => answer_of("available", operator(config, handle, OperatorCommand::Upgrade).await),
        };
        (handle.to_owned(), answer)
    }
}

fn answer_of(wish: &'static str, outcome: anyhow::Result<bool>) -> WishAnswer {
    match outcome {
        Ok(true) => WishAnswer::Acknowledged(wish),
        Ok(false) => WishAnswer::Rejected,
        Err(_) => WishAnswer::Unknown(wish),
    }
}

/// A command of the operator.
#[derive(Clone, Copy)]
enum OperatorCommand {
    Wake,
    Sleep(Wish),
    Upgrade,
}

/// Runs an operator's command; whether the wish was written. `Err`: unknown.
async fn operator(config: &berth::config::Config, handle: &str, command: OperatorCommand) -> anyhow::Result<bool> {
    let host = Arc::new(RemoteHost::new(config.containers.socket.clone()));
    let app = App::open(config.clone(), Clock::system(), host).await?;
    let Some(instance) = app.instances.by_handle(&Handle::parse(handle)?) else { anyhow::bail!("no such instance") };
    let noted = match command {
        OperatorCommand::Wake => app.instances.wake(&instance, Cause::OperatorAsked).await,
        OperatorCommand::Sleep(how) => app.instances.sleep(&instance, how, Cause::OperatorAsked).await,
        OperatorCommand::Upgrade => app.instances.upgrade(&instance).await,
    };
    match noted {
        Ok(()) => {
            // The nudge is lost when no platform runs; the next one finds the wish in the database.
            let _ = control_socket::nudge(&config.control_socket(), instance.id).await;
            Ok(true)
        }
        Err(Error::Forbidden(_) | Error::Conflict(_)) => Ok(false),
        Err(error) => Err(anyhow::anyhow!("{error:?}")),
    }
}

/// Waits until the Engine and the database satisfy every invariant; then new people write their file.
async fn until_converged(platform: &KillablePlatform, ledger: &Db, records: &mut BTreeMap<String, PersonRecord>) {
    let mut violations = Vec::new();
    let have_ended = async || {
        violations = match Snapshot::take(ledger).await {
            Ok(snapshot) => [snapshot.violations(), lost_changes(&snapshot, records)].concat(),
            Err(error) => vec![format!("{error:#}")],
        };
        violations.is_empty()
    };
    let wait = Wait::within(CONVERGENCE_TIMEOUT).every(Duration::from_millis(300));
    let converged = wait.succeeds(have_ended).await;
    assert!(converged, "a minute later still: {violations:#?}");
    assert_eq!(platform.provisioner.points.said(""), 0, "every request to the provisioner has a verb");
    for record in records.values_mut().filter(|record| record.checksum.is_none()) {
        write_file(record).await;
    }
}

fn lost_changes(snapshot: &Snapshot, records: &BTreeMap<String, PersonRecord>) -> Vec<String> {
    let mut violations = Vec::new();
    for (handle, record) in records {
        match snapshot.rows.get(handle) {
            None => violations.push(format!("{handle} signed up and is not there")),
            Some(row) if !record.possible_wishes.contains(row.wish.as_str()) => {
                violations.push(format!(
                    "{handle} is wished {} and should be wished one of {:?}",
                    row.wish, record.possible_wishes
                ));
            }
            Some(_) if record.checksum.is_some() && !snapshot.has_volume(handle) => {
                violations.push(format!("{handle}'s volume is gone"));
            }
            Some(_) => {}
        }
    }
    violations
}

/// Visits the instance for the first time and writes a file.
async fn write_file(record: &mut PersonRecord) {
    let browser = &mut record.browser;
    let seed = u32::from_le_bytes(Clock::system().random());
    let path = format!("/keep/256/{seed}/home/berth/keep");
    let checksum = until_answered(browser, &path).await;
    record.checksum = Some(checksum);
    record.possible_wishes = BTreeSet::from(["available"]);
}

/// Wakes every instance, including those without a container, and compares the file with its checksum.
async fn assert_every_file_is_whole(platform: &KillablePlatform, records: &mut BTreeMap<String, PersonRecord>) {
    for (handle, record) in records {
        operator(&platform.config(), handle, OperatorCommand::Wake).await.unwrap();
        let checksum = until_answered(&mut record.browser, "/sum/home/berth/keep").await;
        assert_eq!(Some(checksum), record.checksum, "{handle}'s file");
    }
}

/// The response of the program, retried for as long as a wake may take.
async fn until_answered(browser: &mut HttpBrowser, path: &str) -> String {
    let mut last = None;
    let ask = async || match browser.visit_as_owner(path).await {
        Ok(answer) => Some(answer),
        Err(error) => {
            last = Some(error);
            None
        }
    };
    let answer = Wait::within(CONVERGENCE_TIMEOUT).every(Duration::from_millis(500)).value(ask).await;
    answer.unwrap_or_else(|| panic!("no answer to {path}: {last:?}"))
}

async fn sign_up(platform: &KillablePlatform, records: &mut BTreeMap<String, PersonRecord>) {
    let mut browser = HttpBrowser::new(next_handle(), platform.address());
    browser.sign_up().await.unwrap();
    remember(records, browser);
}

fn remember(records: &mut BTreeMap<String, PersonRecord>, browser: HttpBrowser) {
    let record =
        PersonRecord { browser: browser.clone(), possible_wishes: BTreeSet::from(["available"]), checksum: None };
    records.insert(browser.handle, record);
}

fn next_handle() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    format!("sleeper{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn every_point() -> Vec<Point> {
    let both = [FaultTiming::Before, FaultTiming::After];
    let engine = ENGINE_REQUESTS.iter().flat_map(|name| both.map(|moment| Point::Engine(name, moment)));
    let provisioner = PROVISIONER_REQUESTS.iter().flat_map(|name| both.map(|moment| Point::Provisioner(name, moment)));
    engine.chain(provisioner).collect()
}
