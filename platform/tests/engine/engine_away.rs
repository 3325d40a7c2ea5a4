//! An Engine that is killed, or stopped for a while, and comes back: awake instances are served throughout, visitors of
//! sleeping ones get a sentence and Retry-After, and afterwards sleeping instances wake again.

use std::time::Duration;

use berth::instances::Fact;

use berth_testing::docker_engine::OwnEngine;
use berth_testing::engine_platform::{EnginePlatform, Ground};
use berth_testing::person::Person;

const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);
const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);

#[tokio::test(flavor = "multi_thread")]
async fn awake_instances_are_served_while_the_engine_is_down_and_sleeping_ones_wake_afterwards() {
    let mut engine = OwnEngine::start_up();
    let platform = EnginePlatform::on(Ground { network: "away", subnet: "10.95.0.0", engine: engine.socket() }).await;
    let stopped = platform.settle_in("ann").await;
    let kept = platform.ask(&stopped, "/keep/256/7/home/berth/keep").await;
    platform.wait(HALF_AN_HOUR).await;
    let frozen = platform.settle_in("ben").await;
    assert_eq!(platform.ask(&frozen, "/count").await, "0");
    platform.wait(FIVE_MINUTES).await;
    let awake = platform.settle_in("cleo").await;
    assert_eq!(platform.ask(&awake, "/count").await, "0");
    assert_eq!([stopped.instance.fact(), frozen.instance.fact()], [Fact::Stopped, Fact::Frozen]);

    for (number, away) in [Duration::ZERO, FIVE_MINUTES].into_iter().enumerate() {
        if away.is_zero() {
            engine.kill()
        } else {
            engine.stop()
        }
        assert_eq!(platform.ask(&awake, "/count").await, (2 * number + 1).to_string(), "it is served all the time");
        platform.clock.advance(away / 2);
        for person in [&stopped, &frozen] {
            is_told_to_come_back(&platform, person).await;
        }
        let api = platform.get("app.example.com", "/api/instance", &awake.app_cookie()).await;
        assert_eq!((api.status, api.json()["fact"].as_str()), (200, Some("awake")));
        engine.start();
        platform.wait(Duration::from_secs(90)).await;
        assert_eq!(platform.ask(&awake, "/count").await, (2 * number + 2).to_string(), "the same program as before");
        until_served(&platform, &frozen).await;
        assert_eq!(platform.ask(&frozen, "/count").await, (number + 1).to_string(), "frozen, it forgot nothing");
        until_served(&platform, &stopped).await;
        assert_eq!(platform.ask(&stopped, "/sum/home/berth/keep").await, kept);
        assert_eq!(platform.ground.containers().len(), 3, "one each");
        // The same state as before, for the next outage.
        use berth::instances::{Cause, Wish};
        for (person, how) in [(&stopped, Wish::Stopped), (&frozen, Wish::Frozen)] {
            platform.instances().sleep(&person.instance, how, Cause::OwnerAsked).await.unwrap();
        }
        platform.instances().settled().await;
        assert_eq!([stopped.instance.fact(), frozen.instance.fact()], [Fact::Stopped, Fact::Frozen]);
    }
    drop(platform);
    drop(engine);
}

async fn is_told_to_come_back(platform: &EnginePlatform, person: &Person) {
    let answer = platform.visit(person, "/count").await;
    assert_eq!((answer.status, answer.header("content-type")), (503, "application/problem+json"), "{}", answer.text());
    assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
    assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("your files are safe")));
}

/// Waits until the instance is served again, for a minute at most.
async fn until_served(platform: &EnginePlatform, person: &Person) {
    for _ in 0..30 {
        if platform.visit(person, "/healthz").await.status == 200 {
            return;
        }
        platform.wait(Duration::from_secs(2)).await;
    }
    panic!("{} is {:?} a minute later", person.handle, person.instance.status());
}
