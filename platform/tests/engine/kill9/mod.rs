//! The platform and the provisioner are killed, again and again, at every point where one asks another for
//! something, while people sign up, wake, sleep, stop, call models and are removed. Each morning everything is as it
//! was promised.

mod invariants;
mod killable_platform;
mod person;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth::app::App;
use berth::clock::Clock;
use berth::containers::remote::RemoteHost;
use berth::control_socket;
use berth::db::Db;
use berth::error::Error;
use berth::handle::Handle;
use berth::instances::{Cause, Wish};

use self::invariants::Worlds;
use self::killable_platform::{KillablePlatform, Part};
use self::person::Person;
use berth_testing::fault_proxy::{Deed, FaultGate, FaultTiming};
use berth_testing::soak::SoakTest;
use berth_testing::tenant_image;

/// Everything the provisioner asks of the Engine while instances come and go.
const OF_THE_ENGINE: [&str; 13] = [
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
/// Everything the platform asks of the provisioner.
const OF_THE_PROVISIONER: [&str; 11] = [
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
/// What the platform says when it starts, and then seldom.
const SAID_AT_THE_START: [&str; 5] = ["ensure_networks", "events", "list", "containers.list", "volumes.list"];
/// People who sign up in all; then the nights go on among those.
const MOST: usize = 60;
/// How long a point is waited for; who is to be killed there is killed anyway.
const UNTIL_MET: Duration = Duration::from_secs(6);
/// After a restart everything is as it must be within this.
const CONVERGED: Duration = Duration::from_secs(60);

/// What was promised to somebody: any of these wishes may be in the ledger.
struct PersonRecord {
    person: Person,
    may_wish: BTreeSet<&'static str>,
    /// What the file in their volume adds up to; `None`: they have not come that far.
    sum: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Point {
    Engine(&'static str, FaultTiming),
    Provisioner(&'static str, FaultTiming),
}

#[tokio::test(flavor = "multi_thread")]
async fn nights_in_which_everything_is_killed_end_in_the_morning_as_promised() {
    let mut long = SoakTest::story("kill9");
    let rounds = long.count(6, 200);
    let mut platform = KillablePlatform::open().await;
    let ledger = platform.ledger().await;
    let mut records: BTreeMap<String, PersonRecord> = BTreeMap::new();
    for _ in Act::ALL {
        sign_up(&platform, &mut records).await;
    }
    morning(&platform, &ledger, &mut records).await;

    let (mut points, mut met) = (Vec::new(), BTreeSet::new());
    for round in 1..=rounds {
        if points.is_empty() {
            points = every_point();
            long.shuffle(&mut points);
        }
        let point = points.pop().unwrap();
        let (hit, killed) = night(&mut platform, &ledger, &mut long, point, &mut records).await;
        if hit {
            met.insert(format!("{point:?}"));
        }
        platform.start().await;
        morning(&platform, &ledger, &mut records).await;
        long.say(&format!(
            "{round}/{rounds}: {point:?} {}, killed {killed:?}; {} points met, {} people",
            if hit { "met" } else { "not met" },
            met.len(),
            records.len()
        ));
    }
    everybody_has_their_files(&platform, &mut records).await;
    assert!(!long.is_whole() || met.len() >= 30, "only {} points were met", met.len());
    long.say(&format!(
        "{rounds} nights, {} different points met: 0 orphans, 0 lost changes, 0 doubles, every file whole",
        met.len()
    ));
}

/// One night: a trap at `point`, people who want everything at once, and whoever walks into it is killed.
async fn night(
    platform: &mut KillablePlatform,
    ledger: &Db,
    long: &mut SoakTest,
    point: Point,
    records: &mut BTreeMap<String, PersonRecord>,
) -> (bool, Vec<Part>) {
    let people = evening(platform, ledger, long, records).await;
    if long.below(2) == 0 {
        // Whoever starts tonight is upgraded on the way.
        tenant_image::make_image(killable_platform::IMAGE, killable_platform::ENGINE.as_ref());
    }
    let hold = FaultGate::default();
    let (relay, name, moment) = match point {
        Point::Engine(name, moment) => (&platform.engine, name, moment),
        Point::Provisioner(name, moment) => (&platform.provisioner, name, moment),
    };
    relay.points.once(name, moment, Deed::Hold(hold.clone()));
    if SAID_AT_THE_START.contains(&name) {
        platform.kill(Part::Platform);
        platform.begin_to_start();
    }
    let config = platform.config();
    let acts = people.into_iter().map(|(handle, act)| {
        let person = records[&handle].person.clone();
        let (config, pause) = (config.clone(), Duration::from_millis(long.below(400) as u64));
        async move {
            tokio::time::sleep(pause).await;
            act.done_by(person, &handle, &config).await
        }
    });
    let acts = tokio::spawn(futures_util::future::join_all(acts.collect::<Vec<_>>()));
    // Only who is new gets a volume.
    let comes = name.contains("volume") || long.below(4) == 0;
    let newcomer = (comes && records.len() < MOST).then(|| Person::new(next_handle(), platform.address()));
    let arrival = newcomer.map(|mut person| {
        tokio::spawn(async move {
            let done = person.sign_up().await;
            (person, done)
        })
    });
    let met = hold.is_met_within(UNTIL_MET).await;
    let killed =
        long.pick(&[&[Part::Platform][..], &[Part::Provisioner], &[Part::Platform, Part::Provisioner]]).to_vec();
    for part in &killed {
        platform.kill(*part);
    }
    // What was on its way arrives after the death of whoever sent it.
    hold.release();
    platform.engine.points.clear();
    platform.provisioner.points.clear();
    // Nobody can wait for an answer of a dead platform; of a live one whose provisioner is dead, some wait for its
    // return.
    if !killed.contains(&Part::Platform) {
        platform.start().await;
    }
    for (handle, may_wish) in acts.await.unwrap() {
        let record = records.get_mut(&handle).unwrap();
        match may_wish {
            Promise::Nothing => {}
            Promise::Kept(wish) => record.may_wish = BTreeSet::from([wish]),
            Promise::Unknown(wish) => drop(record.may_wish.insert(wish)),
        }
    }
    if let Some(arrival) = arrival {
        let (person, done) = arrival.await.unwrap();
        if done.is_ok() {
            arrive(records, person);
        }
    }
    (met, killed)
}

/// Brings as many people as there are acts to where each act has something to do.
async fn evening(
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
            // What does not run cannot be frozen.
            operator(config, handle, Asked::Wake).await?;
            if let Some(how) = sleep {
                until_fact(ledger, handle, "awake").await;
                operator(config, handle, Asked::Sleep(how)).await?;
            }
            until_fact(ledger, handle, act.begins_from()).await;
            anyhow::Ok(())
        }
    });
    futures_util::future::try_join_all(told).await.unwrap();
    for (handle, act) in &people {
        let wish = if act.begins_from() == "awake" { "available" } else { act.begins_from() };
        records.get_mut(handle).unwrap().may_wish = BTreeSet::from([wish]);
    }
    people
}

async fn until_fact(ledger: &Db, handle: &str, fact: &str) {
    let came = tokio::time::timeout(CONVERGED, async {
        while invariants::fact(ledger, handle).await.unwrap() != fact {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(came.await.is_ok(), "{handle} does not become {fact}");
}

/// What became of a wish.
enum Promise {
    Nothing,
    /// It was said that it is noted.
    Kept(&'static str),
    /// Nobody knows.
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

    /// What an instance must be for the act to have an effect.
    fn begins_from(self) -> &'static str {
        match self {
            Self::Visit => "frozen",
            Self::Wake => "stopped",
            Self::Freeze | Self::Call | Self::Stop | Self::Remove | Self::Upgrade => "awake",
            Self::WakeRemoved => "removed",
        }
    }

    async fn done_by(self, mut person: Person, handle: &str, config: &berth::config::Config) -> (String, Promise) {
        let promise = match self {
            // A visit is no promise: it writes nothing when the instance is available, and something when it is not.
            Self::Visit => {
                let _ = person.visit("/count").await;
                Promise::Unknown("available")
            }
            Self::Call => {
                let _ = person.visit("/call").await;
                Promise::Unknown("available")
            }
            Self::Freeze => promise("frozen", person.wish("sleep").await),
            Self::Wake => promise("available", person.wish("wake").await),
            Self::Stop => promise("stopped", operator(config, handle, Asked::Sleep(Wish::Stopped)).await),
            Self::Remove => promise("removed", operator(config, handle, Asked::Sleep(Wish::Removed)).await),
            Self::WakeRemoved => promise("available", operator(config, handle, Asked::Wake).await),
            Self::Upgrade => promise("available", operator(config, handle, Asked::Upgrade).await),
        };
        (handle.to_owned(), promise)
    }
}

fn promise(wish: &'static str, outcome: anyhow::Result<bool>) -> Promise {
    match outcome {
        Ok(true) => Promise::Kept(wish),
        Ok(false) => Promise::Nothing,
        Err(_) => Promise::Unknown(wish),
    }
}

/// What an operator may ask for.
#[derive(Clone, Copy)]
enum Asked {
    Wake,
    Sleep(Wish),
    Upgrade,
}

/// An operator's command: whether the wish was noted. `Err`: nobody knows.
async fn operator(config: &berth::config::Config, handle: &str, asked: Asked) -> anyhow::Result<bool> {
    let host = Arc::new(RemoteHost::new(config.containers.socket.clone()));
    let app = App::open(config.clone(), Clock::system(), host).await?;
    let Some(instance) = app.instances.by_handle(&Handle::parse(handle)?) else { anyhow::bail!("no such instance") };
    let noted = match asked {
        Asked::Wake => app.instances.wake(&instance, Cause::OperatorAsked).await,
        Asked::Sleep(how) => app.instances.sleep(&instance, how, Cause::OperatorAsked).await,
        Asked::Upgrade => app.instances.upgrade(&instance).await,
    };
    match noted {
        Ok(()) => {
            // Lost when nobody listens, and found in the database then.
            let _ = control_socket::nudge(&config.control_socket(), instance.id).await;
            Ok(true)
        }
        Err(Error::Forbidden(_) | Error::Conflict(_)) => Ok(false),
        Err(error) => Err(anyhow::anyhow!("{error:?}")),
    }
}

/// Waits until both worlds are as they must be; then whoever is new moves in, and some look after their files.
async fn morning(platform: &KillablePlatform, ledger: &Db, records: &mut BTreeMap<String, PersonRecord>) {
    let broken = Mutex::new(Vec::new());
    let converged = tokio::time::timeout(CONVERGED, async {
        loop {
            let now = match Worlds::look(ledger).await {
                Ok(worlds) => [worlds.broken(), broken_promises(&worlds, records)].concat(),
                Err(error) => vec![format!("{error:#}")],
            };
            if now.is_empty() {
                return;
            }
            *broken.lock().unwrap() = now;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    assert!(converged.await.is_ok(), "a minute later still: {:#?}", broken.lock().unwrap());
    assert_eq!(platform.provisioner.points.said(""), 0, "everything that is said has a name");
    for record in records.values_mut().filter(|record| record.sum.is_none()) {
        move_in(record).await;
    }
}

fn broken_promises(worlds: &Worlds, records: &BTreeMap<String, PersonRecord>) -> Vec<String> {
    let mut broken = Vec::new();
    for (handle, record) in records {
        match worlds.rows.get(handle) {
            None => broken.push(format!("{handle} signed up and is not there")),
            Some(row) if !record.may_wish.contains(row.wish.as_str()) => {
                broken.push(format!("{handle} is wished {} and was promised {:?}", row.wish, record.may_wish));
            }
            Some(_) if record.sum.is_some() && !worlds.has_volume(handle) => {
                broken.push(format!("{handle}'s volume is gone"));
            }
            Some(_) => {}
        }
    }
    broken
}

/// Comes in for the first time and leaves a file.
async fn move_in(record: &mut PersonRecord) {
    let person = &mut record.person;
    let seed = u32::from_le_bytes(Clock::system().random());
    let path = format!("/keep/256/{seed}/home/berth/keep");
    let moved_in = until_asked(person, &path).await;
    record.sum = Some(moved_in);
    record.may_wish = BTreeSet::from(["available"]);
}

/// At the end everybody looks after their files, also those whose container was taken away.
async fn everybody_has_their_files(platform: &KillablePlatform, records: &mut BTreeMap<String, PersonRecord>) {
    for (handle, record) in records {
        operator(&platform.config(), handle, Asked::Wake).await.unwrap();
        let sum = until_asked(&mut record.person, "/sum/home/berth/keep").await;
        assert_eq!(Some(sum), record.sum, "{handle}'s file");
    }
}

/// What the program says, tried again for as long as a wake may take.
async fn until_asked(person: &mut Person, path: &str) -> String {
    let mut last = None;
    for _ in 0..20 {
        match async {
            person.come_in().await?;
            person.ask(path).await
        }
        .await
        {
            Ok(answer) => return answer,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("{} cannot come in: {last:?}", person.handle)
}

async fn sign_up(platform: &KillablePlatform, records: &mut BTreeMap<String, PersonRecord>) {
    let mut person = Person::new(next_handle(), platform.address());
    person.sign_up().await.unwrap();
    arrive(records, person);
}

fn arrive(records: &mut BTreeMap<String, PersonRecord>, person: Person) {
    let record = PersonRecord { person: person.clone(), may_wish: BTreeSet::from(["available"]), sum: None };
    records.insert(person.handle, record);
}

fn next_handle() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    format!("sleeper{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn every_point() -> Vec<Point> {
    let both = [FaultTiming::Before, FaultTiming::After];
    let engine = OF_THE_ENGINE.iter().flat_map(|name| both.map(|moment| Point::Engine(name, moment)));
    let provisioner = OF_THE_PROVISIONER.iter().flat_map(|name| both.map(|moment| Point::Provisioner(name, moment)));
    engine.chain(provisioner).collect()
}
