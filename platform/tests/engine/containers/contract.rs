//! The contract of `ContainerHost`, told once and kept by all three of its bodies.

use std::net::Ipv4Addr;
use std::time::Duration;

use berth_containers::ContainerState::{Frozen, Running, Stopped};
use berth_containers::{ContainerSpec, HostError, ObservedInstance, Slot};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use berth_testing::container_hosts::{ABSENT, ContainerHosts, refuses_with};

/// How long the bench's hosts keep what is buried.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

macro_rules! contract {
    ($($story:ident),* $(,)?) => {
        contract!(@of fake: $($story),*);
        contract!(@of engine: $($story),*);
        contract!(@of remote: $($story),*);
    };
    (@of $body:ident: $($story:ident),*) => {
        mod $body {
            $(#[tokio::test] async fn $story() { super::$story(super::ContainerHosts::$body().await).await; })*
        }
    };
}

contract! {
    an_instance_lives_and_every_verb_may_be_asked_twice,
    created_twice_it_is_one_container,
    another_token_makes_another_container_on_the_same_volume,
    without_a_container_only_waking_fails,
    a_stopped_one_neither_freezes_nor_thaws,
    it_stops_from_frozen,
    a_frozen_one_is_not_started,
    a_running_container_is_removed_and_its_volume_stays,
    a_volume_is_destroyed_only_long_after_it_was_buried,
    a_buried_volume_is_not_used_until_it_is_dug_up,
    nothing_on_which_a_container_stands_is_destroyed,
    only_allowed_images_that_are_there,
    only_slots_that_are_there,
    the_list_says_what_inspecting_says,
    events_name_the_instance,
    the_gateway_is_the_bridges_first_address,
    the_report_names_missing_images,
}

async fn an_instance_lives_and_every_verb_may_be_asked_twice(bench: ContainerHosts) {
    let (host, spec) = (&bench.host, bench.spec());
    let id = spec.instance;
    for _ in 0..2 {
        host.ensure_volume(id, &spec.size).await.unwrap();
    }
    assert_eq!(bench.seen(&spec).await, ObservedInstance { instance: id, volume: true, container: None });
    host.create(&spec).await.unwrap();
    let made = bench.seen(&spec).await.container.unwrap();
    assert_eq!((made.state, made.exit, &made.image, made.slot), (Stopped, None, &spec.image, spec.slot));
    for _ in 0..2 {
        host.start(id).await.unwrap();
        let container = bench.seen(&spec).await.container.unwrap();
        assert_eq!((container.state, container.exit), (Running, None));
    }
    for _ in 0..2 {
        host.freeze(id).await.unwrap();
        assert_eq!(bench.state(&spec).await, Some(Frozen));
    }
    for _ in 0..2 {
        host.thaw(id).await.unwrap();
        assert_eq!(bench.state(&spec).await, Some(Running));
    }
    for _ in 0..2 {
        host.stop(id).await.unwrap();
        let container = bench.seen(&spec).await.container.unwrap();
        assert_eq!(container.state, Stopped);
        assert!(container.exit.is_some_and(|exit| !exit.out_of_memory), "{:?}", container.exit);
    }
    for _ in 0..2 {
        host.remove_container(id).await.unwrap();
        assert_eq!(bench.seen(&spec).await, ObservedInstance { instance: id, volume: true, container: None });
    }
}

async fn created_twice_it_is_one_container(bench: ContainerHosts) {
    let spec = bench.running().await;
    let before = bench.seen(&spec).await;
    bench.host.create(&spec).await.unwrap();
    assert_eq!(bench.seen(&spec).await, before);

    let other = bench.spec();
    let (one, two) = tokio::join!(bench.host.create(&other), bench.host.create(&other));
    assert_eq!((one, two), (Ok(()), Ok(())));
    let list = bench.host.list().await.unwrap();
    assert_eq!(list.iter().filter(|seen| seen.instance == other.instance).count(), 1);
}

async fn another_token_makes_another_container_on_the_same_volume(bench: ContainerHosts) {
    let mut spec = bench.running().await;
    let before = bench.seen(&spec).await.container.unwrap();
    spec.token = "another-token".into();
    bench.host.create(&spec).await.unwrap();
    let seen = bench.seen(&spec).await;
    let after = seen.container.unwrap();
    assert!(seen.volume);
    assert_ne!(after.id, before.id);
    assert_ne!(after.token_hash, before.token_hash);
    assert_eq!(after.state, Stopped);
}

async fn without_a_container_only_waking_fails(bench: ContainerHosts) {
    let (host, id) = (&bench.host, bench.spec().instance);
    assert_eq!(host.start(id).await, Err(HostError::NotFound));
    assert_eq!(host.freeze(id).await, Err(HostError::NotFound));
    assert_eq!(host.thaw(id).await, Err(HostError::NotFound));
    assert_eq!(host.stop(id).await, Ok(()));
    assert_eq!(host.remove_container(id).await, Ok(()));
    assert_eq!(host.inspect(id).await, Ok(ObservedInstance { instance: id, volume: false, container: None }));
}

async fn a_stopped_one_neither_freezes_nor_thaws(bench: ContainerHosts) {
    let spec = bench.spec();
    bench.host.create(&spec).await.unwrap();
    for refused in [bench.host.freeze(spec.instance).await, bench.host.thaw(spec.instance).await] {
        assert!(matches!(refused, Err(HostError::Failed(_))), "{refused:?}");
    }
    assert_eq!(bench.state(&spec).await, Some(Stopped));
}

async fn it_stops_from_frozen(bench: ContainerHosts) {
    let spec = bench.running().await;
    bench.host.freeze(spec.instance).await.unwrap();
    bench.host.stop(spec.instance).await.unwrap();
    assert_eq!(bench.state(&spec).await, Some(Stopped));
    bench.host.start(spec.instance).await.unwrap();
    assert_eq!(bench.state(&spec).await, Some(Running));
}

async fn a_frozen_one_is_not_started(bench: ContainerHosts) {
    let spec = bench.running().await;
    bench.host.freeze(spec.instance).await.unwrap();
    bench.host.start(spec.instance).await.unwrap();
    assert_eq!(bench.state(&spec).await, Some(Frozen));
}

async fn a_running_container_is_removed_and_its_volume_stays(bench: ContainerHosts) {
    let spec = bench.running().await;
    bench.host.remove_container(spec.instance).await.unwrap();
    let frozen = bench.running().await;
    bench.host.freeze(frozen.instance).await.unwrap();
    bench.host.remove_container(frozen.instance).await.unwrap();
    for instance in [spec.instance, frozen.instance] {
        let seen = bench.host.inspect(instance).await.unwrap();
        assert_eq!(seen, ObservedInstance { instance, volume: true, container: None });
    }
}

async fn a_volume_is_destroyed_only_long_after_it_was_buried(bench: ContainerHosts) {
    let (host, spec) = (&bench.host, bench.spec());
    let id = spec.instance;
    host.destroy_volume(id).await.unwrap();
    host.ensure_volume(id, &spec.size).await.unwrap();
    refuses_with(host.destroy_volume(id).await, "never buried");
    host.bury_volume(id).await.unwrap();
    refuses_with(host.destroy_volume(id).await, "to be kept");
    bench.clock.advance(WEEK - Duration::from_secs(1));
    // Asked again, it keeps its time.
    host.bury_volume(id).await.unwrap();
    refuses_with(host.destroy_volume(id).await, "to be kept");
    assert_eq!(host.host_report().await.unwrap().buried, 1);
    bench.clock.advance(Duration::from_secs(1));
    for _ in 0..2 {
        host.destroy_volume(id).await.unwrap();
        assert_eq!(bench.seen(&spec).await, ObservedInstance { instance: id, volume: false, container: None });
    }
    assert_eq!(host.host_report().await.unwrap().buried, 0);
}

async fn a_buried_volume_is_not_used_until_it_is_dug_up(bench: ContainerHosts) {
    let (host, spec) = (&bench.host, bench.running().await);
    host.bury_volume(spec.instance).await.unwrap();
    assert_eq!(bench.state(&spec).await, Some(Running), "what runs, runs on");
    host.stop(spec.instance).await.unwrap();
    let other = ContainerSpec { token: "another-token".into(), ..spec.clone() };
    for refused in [
        host.start(spec.instance).await,
        host.create(&other).await,
        host.ensure_volume(spec.instance, &spec.size).await,
    ] {
        assert!(matches!(refused, Err(HostError::Refused(_))), "{refused:?}");
    }
    for _ in 0..2 {
        host.unbury_volume(spec.instance).await.unwrap();
    }
    host.start(spec.instance).await.unwrap();
    assert_eq!(bench.state(&spec).await, Some(Running));
    // Buried anew, its time begins anew.
    bench.clock.advance(WEEK);
    host.remove_container(spec.instance).await.unwrap();
    host.bury_volume(spec.instance).await.unwrap();
    refuses_with(host.destroy_volume(spec.instance).await, "to be kept");
}

async fn nothing_on_which_a_container_stands_is_destroyed(bench: ContainerHosts) {
    let (host, spec) = (&bench.host, bench.running().await);
    host.bury_volume(spec.instance).await.unwrap();
    bench.clock.advance(WEEK);
    refuses_with(host.destroy_volume(spec.instance).await, "container");
    host.stop(spec.instance).await.unwrap();
    refuses_with(host.destroy_volume(spec.instance).await, "container");
    host.remove_container(spec.instance).await.unwrap();
    host.destroy_volume(spec.instance).await.unwrap();
    assert!(!bench.seen(&spec).await.volume);
}

async fn only_allowed_images_that_are_there(bench: ContainerHosts) {
    let mut spec = bench.spec();
    spec.image = "somebody/else:latest".into();
    refuses_with(bench.host.create(&spec).await, "BERTH_IMAGES");
    spec.image = ABSENT.into();
    assert_eq!(bench.host.create(&spec).await, Err(HostError::ImageMissing(ABSENT.into())));
    assert_eq!(bench.seen(&spec).await.container, None);
}

async fn only_slots_that_are_there(bench: ContainerHosts) {
    let mut spec = bench.spec();
    spec.slot = Slot(500);
    refuses_with(bench.host.create(&spec).await, "BERTH_BRIDGES");
}

async fn the_list_says_what_inspecting_says(bench: ContainerHosts) {
    let (host, running, frozen, stopped, bare) =
        (&bench.host, bench.running().await, bench.running().await, bench.running().await, bench.spec());
    host.freeze(frozen.instance).await.unwrap();
    host.stop(stopped.instance).await.unwrap();
    host.ensure_volume(bare.instance, &bare.size).await.unwrap();
    let list = host.list().await.unwrap();
    for spec in [&running, &frozen, &stopped, &bare] {
        let listed = list.iter().find(|seen| seen.instance == spec.instance);
        assert_eq!(listed, Some(&bench.seen(spec).await));
    }
}

async fn events_name_the_instance(bench: ContainerHosts) {
    let spec = bench.spec();
    bench.host.create(&spec).await.unwrap();
    let events = bench.host.events().await.unwrap();
    bench.host.start(spec.instance).await.unwrap();
    let mut ours = events.filter(|instance| std::future::ready(*instance == spec.instance));
    let told = timeout(Duration::from_secs(10), ours.next()).await;
    assert_eq!(told.expect("an event within ten seconds"), Some(spec.instance));
}

async fn the_gateway_is_the_bridges_first_address(bench: ContainerHosts) {
    for _ in 0..2 {
        assert_eq!(bench.host.ensure_networks().await, Ok(vec![Ipv4Addr::new(10, 97, 0, 1)]));
    }
}

async fn the_report_names_missing_images(bench: ContainerHosts) {
    let report = bench.host.host_report().await.unwrap();
    assert_eq!(report.missing_images, [ABSENT]);
    assert!(matches!(report.cgroup_version, 1 | 2));
    assert!(!report.engine_version.is_empty() && !report.runc_version.is_empty());
    assert!(!report.disks.is_empty() && report.disks.iter().all(|disk| disk.fullest() <= 100), "{:?}", report.disks);
}
