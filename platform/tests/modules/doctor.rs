//! Findings of `berth doctor` about a host: missing isolation between tenants, and versions with known vulnerabilities.

use std::sync::Arc;

use berth::app::App;
use berth::control_socket;
use berth::modules::{Finding, Verdict};
use berth_containers::{ConfigurationDrift, HostReport};

use berth_testing::wait::eventually;
use berth_testing::{TestModules, databases};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sea_orm::ConnectionTrait as _;
use tokio_util::sync::CancellationToken;

/// What `doctor` finds on a healthy host that is changed like this.
async fn found(platform: &TestModules, change: impl Fn(&mut HostReport)) -> Vec<Finding> {
    platform.host.report_with(|report| change(report));
    App::examine(&platform.config, platform.clock.clone(), Arc::new(platform.host.clone())).await
}

#[tokio::test]
async fn vulnerable_versions_and_missing_isolation_are_reported() {
    type Change = fn(&mut HostReport);
    let cases: [(&str, Verdict, &str, Change); 14] = [
        ("engine", Verdict::Warning, "Upgrade to 28", |report| report.engine_version = "27.5.1".into()),
        ("runc", Verdict::Warning, "CVE-2025-31133", |report| report.runc_version = "1.3.2".into()),
        ("kernel", Verdict::Warning, "61 days ago", |report| report.kernel_age_days = Some(61)),
        ("kernel", Verdict::Fine, "60 days ago", |report| report.kernel_age_days = Some(60)),
        ("kernel", Verdict::Fine, "of unknown build date", |report| report.kernel_age_days = None),
        ("live-restore", Verdict::Warning, "daemon.json", |report| report.live_restore = false),
        ("runtime", Verdict::Broken, "BERTH_RUNTIME is runc", |report| report.runtimes = vec!["crun".into()]),
        ("egress", Verdict::Broken, "no nft. No instance", |report| report.egress = Err("no nft".into())),
        ("neighbours", Verdict::Broken, "no br_netfilter", |report| report.neighbours = Err("no br_netfilter".into())),
        ("seccomp", Verdict::Broken, "does not filter system calls", |report| {
            report.security_options = vec!["apparmor".into()]
        }),
        ("confinement", Verdict::Warning, "AppArmor", |report| report.security_options = vec!["seccomp".into()]),
        ("images", Verdict::Broken, "pins", |report| report.other_images = vec!["one:1".into()]),
        ("containers", Verdict::Broken, "berth-1 (Memory)", |report| {
            report.containers = ConfigurationDrift { as_made: 3, older: 0, changed: vec!["berth-1 (Memory)".into()] };
        }),
        ("containers", Verdict::Fine, "3 unchanged since creation; 2 with an outdated image", |report| {
            report.containers = ConfigurationDrift { as_made: 3, older: 2, changed: Vec::new() };
        }),
    ];
    for (subject, verdict, words, change) in cases {
        let platform = TestModules::on(databases::sqlite().await).await;
        let findings = found(&platform, change).await;
        let finding = findings.iter().find(|finding| finding.subject == subject);
        let finding = finding.unwrap_or_else(|| panic!("nothing is said of {subject}"));
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(finding.sentence.contains(words), "{finding:?} does not say {words:?}");
    }
}

#[tokio::test]
async fn money_and_certificates_are_checked_also_where_the_platform_cannot_start() {
    let platform = TestModules::with(
        databases::sqlite().await,
        &[("BERTH_TLS_ISSUER", "acme"), ("BERTH_CERTIFICATES_A_WEEK", "50")],
    )
    .await;
    let tx = platform.db.begin().await.unwrap();
    for statement in [
        "DROP TABLE alarms",
        "INSERT INTO accounts VALUES (X'00000000000000000000000000000001', 'alice', 'alice', 'member', 'active', X'00', 0, 0, 0, 0)",
        "INSERT INTO allowances VALUES (X'00000000000000000000000000000001', '2026-11', 1000, 5)",
    ] {
        tx.execute_unprepared(statement).await.unwrap();
    }
    tx.commit().await.unwrap();
    let findings = found(&platform, |_| {}).await;
    for (subject, verdict, words) in [
        ("platform", Verdict::Broken, "cannot start: reading the alarms"),
        ("money", Verdict::Broken, "spent is 5, its days sum to 0"),
        ("new addresses", Verdict::Fine, "0 of 50"),
    ] {
        let finding = findings.iter().find(|finding| finding.subject == subject);
        let finding = finding.unwrap_or_else(|| panic!("nothing is said of {subject}"));
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(finding.sentence.contains(words), "{finding:?}");
    }
}

#[tokio::test]
async fn a_healthy_host_has_no_findings() {
    let platform = TestModules::on(databases::sqlite().await).await;
    let findings = found(&platform, |_| {}).await;
    let subjects =
        ["provisioner", "egress", "neighbours", "containers", "engine", "runc", "kernel", "runtime", "images"];
    for subject in subjects {
        let finding = findings.iter().find(|finding| finding.subject == subject).unwrap();
        assert_eq!(finding.verdict, Verdict::Fine, "{finding:?}");
    }
}

#[tokio::test]
async fn a_running_platform_that_may_open_few_files_is_named() {
    let platform = TestModules::on(databases::sqlite().await).await;
    let (config, host) = (platform.config.clone(), Arc::new(platform.host.clone()));
    let app = App::on(platform.db.clone(), config, platform.clock.clone(), host).await.unwrap();
    let socket = platform.config.control_socket();
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    assert!(found(&platform, |_| {}).await.iter().all(|finding| finding.subject != "open files"), "nothing runs");

    let (listens, end) = (socket.clone(), CancellationToken::new());
    let running = tokio::spawn({
        let end = end.clone();
        async move { control_socket::listen(&listens, app, end).await }
    });
    eventually("it listens", async || socket.exists()).await;
    // The platform is this process. Both limits are enough for what else it does.
    let before = getrlimit(Resource::Nofile);
    for soft in [1022, 1023] {
        setrlimit(Resource::Nofile, Rlimit { current: Some(soft), ..before }).unwrap();
        let findings = found(&platform, |_| {}).await;
        let finding = findings.iter().find(|finding| finding.subject == "open files").unwrap();
        assert_eq!(finding.verdict, Verdict::Warning, "{finding:?}");
        assert!(finding.sentence.contains(&format!("only {soft},")), "{finding:?}");
    }
    setrlimit(Resource::Nofile, before).unwrap();
    end.cancel();
    running.await.unwrap().unwrap();
}
