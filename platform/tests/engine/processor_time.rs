//! Processor time as the kernel counts it: what computes is at work, what waits is not.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use berth::app::App;
use berth::config::ContainerConfig;
use berth::instances::{Fact, Work};
use berth_containers::ContainerHost as _;
use berth_ground::clock::Clock;

use berth_testing::container_hosts::{self, ContainerHosts};
use berth_testing::fake_platform::until;
use berth_testing::person::Person;
use berth_testing::quota_platform::client;
use berth_testing::wait::eventually;
use berth_testing::{START, config, sqlite};

/// Prefix of the objects that this test creates on the Engine.
const NETWORK: &str = "acttest";

/// Removes the objects of this test from the Engine, also when the test fails.
struct Swept;

impl Drop for Swept {
    fn drop(&mut self) {
        container_hosts::sweep_network(NETWORK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_computes_stays_awake_and_one_that_waits_falls_asleep() {
    let engine = ContainerHosts::engine().await;
    container_hosts::sweep_network(NETWORK);
    let _swept = Swept;
    let database = sqlite().await;
    let mut config = config(&database, &[]);
    config.containers = ContainerConfig {
        network: NETWORK.into(),
        subnet: Ipv4Addr::new(10, 101, 0, 0),
        ..container_hosts::config(engine.dir.path())
    };
    let clock = Clock::manual(START);
    let host = Arc::new(container_hosts::docker(config.containers.clone()));
    host.ensure_networks().await.unwrap();
    let app = App::open(config, clock.clone(), host.clone()).await.unwrap();
    app.instances.begin().await.unwrap();
    let busy = Person::sign_up(&app, "busy").await.instance;
    let quiet = Person::sign_up(&app, "quiet").await.instance;
    for instance in [&busy, &quiet] {
        until(instance, |status| status.fact == Fact::Awake).await;
    }
    app.instances.settled().await;

    // One second before both have been idle for long enough.
    clock.advance(Duration::from_secs(299));
    let compute = client(None).get(format!("http://{}/compute", busy.socket())).send().await.unwrap();
    assert_eq!(compute.text().await.unwrap(), "computing");
    let used = async || {
        let id = busy.container().unwrap();
        let load = host.load().await.unwrap();
        load.containers.into_iter().find(|container| container.id == *id).expect("its cgroup is found").cpu
    };
    app.instances.note_processors(&host.load().await.unwrap());
    let before = used().await;
    let has_computed = async || used().await >= before + Duration::from_millis(200);
    eventually("the program has used 200 ms of processor time", has_computed).await;
    clock.advance(Duration::from_secs(1));
    app.instances.note_processors(&host.load().await.unwrap());
    app.instances.round().await;
    app.instances.settled().await;
    assert_eq!((busy.fact(), quiet.fact()), (Fact::Awake, Fact::Frozen));
    assert_eq!(app.instances.awake_report(&busy).last.unwrap().work, Work::Processor);
}
