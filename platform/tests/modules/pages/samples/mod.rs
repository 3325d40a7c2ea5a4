//! Sample data for every page.

mod prices;
mod usage;
mod webhooks;

use askama::Template;
use berth::edge::pages::{MessagePage, WaitingPage};
use berth::http::format::{self, Moment};
use berth::http::problem::ErrorPage;
use berth::instances::{
    AwakeReport, Cause, DeclaredJob, Fact, InstanceStatus, LastWork, OpenWork, WakeStage, Wish, Work,
};
use berth::web::account_deletion::{DeleteAccountPage, DeletionScheduledPage, DeletionStartedPage};
use berth::web::admin::users::{InstanceCell, UserRow, UsersPage};
use berth::web::dashboard::{DashboardPage, HistoryRow, SessionRow};
use berth::web::domains::page::{DomainRow, DomainsPage};
use berth::web::hand_off::{ConsentPage, HandOffContinuePage};
use berth::web::instance::awake_view::{awake_view, last_work};
use berth::web::instance::ports::{OpenPort, PortsView};
use berth::web::landing::LandingPage;
use berth::web::log_in::page::{LogInCodePage, LogInContinuePage, LogInPage};
use berth::web::log_in::recovery::RecoveryPage;
use berth::web::page_head::PageHead;
use berth::web::passkeys::{NewRecoveryCodesPage, PasskeyRow, PasskeysPage};
use berth::web::sharing::page::{ShareForm, ShareRow, SharingPage};
use berth::web::sign_up::page::{HandlePage, SignUpCodePage, SignUpPasskeyPage, SignUpRecoveryCodesPage, WelcomePage};
use berth::web::sign_up::qr_code::QrPath;
use berth::web::usage::usage_card::{ModelUsageView, UsageCardView};
use berth::webhooks::InboxCounts;
use berth_ground::clock::Timestamp;
use berth_ground::money::Nanodollars;

const NOON: i64 = 1_795_183_329_000;

/// Every page by name.
pub fn all() -> Vec<(&'static str, String)> {
    vec![
        ("landing", landing(3)),
        ("landing-nobody", landing(0)),
        ("sign-up-handle", sign_up_handle("alice")),
        ("sign-up-passkey", html(&SignUpPasskeyPage { handle: "alice".into() })),
        ("sign-up-code", sign_up_code()),
        ("sign-up-recovery-codes", sign_up_recovery_codes()),
        ("welcome", welcome(&status(Fact::Provisioning, WakeStage::Volume))),
        ("welcome-awake", welcome(&status(Fact::Awake, WakeStage::Ready))),
        ("welcome-failed", welcome(&status(Fact::Failed, WakeStage::Container))),
        ("log-in", log_in("", "")),
        ("log-in-on-the-way", log_in("alice.example.com", "/hand-off?host=alice.example.com&state=s&challenge=c")),
        ("log-in-code", html(&LogInCodePage { next: String::new(), note: "That code is wrong or used.".into() })),
        ("log-in-go-on", html(&LogInContinuePage { next: "/hand-off?host=alice.example.com".into() })),
        ("recover", recover()),
        ("dashboard", dashboard(&status(Fact::Awake, WakeStage::Ready), 1_234_567_890, 42_000_000)),
        ("dashboard-asleep", dashboard(&status(Fact::Frozen, WakeStage::Ready), 123_000, 0)),
        ("dashboard-failed", dashboard(&status(Fact::Failed, WakeStage::Container), 5_000_000_000, 0)),
        ("dashboard-new", dashboard(&status(Fact::Provisioning, WakeStage::Volume), 0, 0)),
        ("usage", usage::full()),
        ("usage-past", usage::past()),
        ("usage-first-day", usage::first_day()),
        ("usage-empty", usage::empty()),
        ("receipts", usage::receipts()),
        ("receipt", usage::receipt(None)),
        ("receipt-altered", usage::receipt(Some("receipt 17 was altered: its digest is another"))),
        ("receipt-under-own-key", usage::receipt_under_own_key(Some(4_139_700))),
        ("receipt-under-own-key-unknown", usage::receipt_under_own_key(None)),
        ("own-keys", usage::own_keys(true)),
        ("own-keys-none", usage::own_keys(false)),
        ("webhooks", webhooks::page(true)),
        ("webhooks-empty", webhooks::page(false)),
        ("sharing", sharing(true)),
        ("sharing-empty", sharing(false)),
        ("domains", domains(true)),
        ("domains-none", domains(false)),
        ("hand-off-agree", agree()),
        (
            "hand-off-go-on",
            html(&HandOffContinuePage { host: "bob.example.com".into(), next: "https://bob.example.com".into() }),
        ),
        ("passkeys", passkeys(false)),
        ("passkeys-recovered", passkeys(true)),
        ("new-recovery-codes", new_recovery_codes()),
        ("deletion", deletion("")),
        ("deletion-refused", deletion("This is not your handle. Type it to say that you mean it.")),
        ("left", html(&DeletionStartedPage { handle: "alice".into(), due: Moment(Timestamp(NOON)) })),
        ("leaving", leaving(true)),
        ("leaving-deleted", leaving(false)),
        ("admin", admin()),
        ("admin-usage", usage::of_all()),
        ("admin-usage-refused", usage::of_all_refused()),
        ("admin-usage-account", usage::of_account()),
        ("admin-compare", usage::compared()),
        ("admin-prices", prices::all()),
        ("admin-prices-refused", prices::refused()),
        ("admin-price-version", prices::version()),
        ("admin-rerating", prices::rerating("")),
        ("admin-rerating-refused", prices::rerating("Write a day as 2026-11-25.")),
        ("error-not-found", error(404, "Not found", "There is nothing here by that name.", "")),
        (
            "error-internal",
            error(500, "Something went wrong", "Something went wrong on our side.", "0b9a3c1e-77f1-4b1f"),
        ),
        ("edge-waiting", waiting(&status(Fact::Waking, WakeStage::Started))),
        ("edge-waiting-failed", waiting(&status(Fact::Failed, WakeStage::Container))),
        ("edge-waiting-visitor", waiting_visitor()),
        ("edge-message", message()),
    ]
}

pub fn sign_up_handle(typed: &str) -> String {
    html(&HandlePage {
        suffix: ".example.com".into(),
        handle: typed.into(),
        set_up: String::new(),
        closed: false,
        note: "This handle, or one that looks just like it, is taken.".into(),
        verdict: "bad",
        suggestions: vec!["alice-2".into(), "alice-at-sea".into(), "the-alice".into()],
    })
}

fn head(handle: &str) -> PageHead {
    PageHead { handle: handle.into(), is_admin: false }
}

fn admin_head(handle: &str) -> PageHead {
    PageHead { handle: handle.into(), is_admin: true }
}

fn html(page: &impl Template) -> String {
    page.render().expect("a page with good data renders")
}

fn status(fact: Fact, stage: WakeStage) -> InstanceStatus {
    let failure =
        (fact == Fact::Failed).then(|| "The disk of this machine is full. The operator has been told.".into());
    let cause = match fact {
        Fact::Frozen => Cause::Idle,
        Fact::Failed => Cause::Failure,
        _ => Cause::Visit,
    };
    InstanceStatus { wish: Wish::Available, fact, since: Timestamp(NOON), cause, stage, failure }
}

fn landing(awake: usize) -> String {
    html(&LandingPage {
        app_origin: "https://app.example.com".into(),
        suffix: ".example.com".into(),
        awake,
        allowance: "$5.00".into(),
        signups_open: true,
    })
}

fn sign_up_code() -> String {
    let uri = "otpauth://totp/Berth:alice?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Berth";
    html(&SignUpCodePage {
        handle: "alice".into(),
        qr: QrPath::of(uri).unwrap(),
        uri: uri.into(),
        secret: "JBSW Y3DP EHPK 3PXP JBSW Y3DP EHPK 3PXP".into(),
        note: "That code is not right. Wait for the next one and try again.".into(),
    })
}

fn sign_up_recovery_codes() -> String {
    let codes = (0..10).map(|i| format!("7K{i}QX-9MTRA-ZP4H{i}-C2VND-8WFJE")).collect();
    html(&SignUpRecoveryCodesPage { handle: "alice".into(), codes })
}

fn welcome(status: &InstanceStatus) -> String {
    html(&WelcomePage {
        handle: "alice".into(),
        instance_origin: "https://alice.example.com".into(),
        state: format::state(status, Timestamp(NOON)),
        awake: status.fact == Fact::Awake,
        steps: format::steps(status.stage),
        opens_at: (status.fact == Fact::Awake).then_some(Moment(Timestamp(NOON))),
    })
}

fn log_in(instance: &str, next: &str) -> String {
    html(&LogInPage { next: next.into(), instance: instance.into(), conditional: true })
}

fn recover() -> String {
    html(&RecoveryPage {
        handle: "alice".into(),
        note: "The recovery code and the one-time code do not belong together, or one was used before.".into(),
        field: String::new(),
    })
}

fn dashboard(status: &InstanceStatus, spent: i64, held: i64) -> String {
    let models =
        [("claude-sonnet-4-5", 41, 182_044, 30_911, spent * 9 / 10), ("gpt-5-mini", 7, 9_120, 2_204, spent / 10)];
    let model = |(model, calls, input, output, amount): (&str, i64, i64, i64, i64)| ModelUsageView {
        model: model.into(),
        provider: "anthropic".into(),
        calls: format::grouped(calls),
        input_tokens: format::grouped(input),
        output_tokens: format::grouped(output),
        amount: format::dollars(Nanodollars(amount)),
    };
    html(&DashboardPage {
        head: admin_head("alice"),
        instance_host: "alice.example.com".into(),
        instance_origin: "https://alice.example.com".into(),
        outdated: status.fact == Fact::Frozen,
        opens_at: (status.fact == Fact::Frozen).then_some(Moment(Timestamp(NOON))),
        state: format::state(status, Timestamp(NOON)),
        why: awake_view(&ledger(status.fact == Fact::Awake), status.fact == Fact::Awake),
        history: vec![
            change(1, status.fact, Cause::Visit),
            change(90, Fact::Frozen, Cause::Idle),
            change(200, Fact::Awake, Cause::SignUp),
        ],
        spend: UsageCardView {
            month: "November 2026".into(),
            spent: format::dollars(Nanodollars(spent)),
            held: format::dollars(Nanodollars(held)),
            left: format::dollars(Nanodollars(5_000_000_000 - spent - held)),
            allowance: "$5.00".into(),
            spent_share: spent / 500_000,
            held_share: held / 500_000,
            holds: held > 0,
            models: if spent == 0 { Vec::new() } else { models.map(model).into() },
        },
        alerts: if spent == 5_000_000_000 { usage::alerts() } else { Vec::new() },
        webhooks: webhooks::card(spent > 0),
        shares: usize::from(spent > 0) * 3,
        port: String::new(),
        domains: if spent > 0 { vec!["docs.alice.org".into()] } else { Vec::new() },
        ports: ports(spent > 0),
        sessions: vec![session("Chrome on Linux", true), session("Safari on iPhone", false)],
        passkeys: vec![passkey("Passkey of 20 Nov")],
        grace: "7 days".into(),
    })
}

fn ports(some: bool) -> PortsView {
    let url = |port: u16| format!("https://{port}--alice.example.com");
    let open = if some { vec![3000, 8000, 8001] } else { Vec::new() };
    PortsView {
        typed: if some { "3000, 8000-8001".into() } else { "80".into() },
        note: if some { String::new() } else { "80 is not between 1024 and 65535.".into() },
        open: open.into_iter().map(|port| OpenPort { port, url: Some(url(port)) }).collect(),
        path: "https://alice.example.com/_port/".into(),
    }
}

fn sharing(some: bool) -> String {
    let row = |path: &str, to: &str| ShareRow {
        id: "1".into(),
        address: format!("https://alice.example.com{path}"),
        path: path.into(),
        to: to.into(),
    };
    let mut page = SharingPage {
        head: head("alice"),
        shares: Vec::new(),
        most: 50,
        may_add: true,
        typed: ShareForm { path: "/".into(), audience: "account".into(), handle: String::new(), wakes: String::new() },
        note: String::new(),
        field: "",
    };
    if some {
        page.shares = vec![
            row("/", "to bob"),
            row("/docs", "to everyone, while it is awake"),
            row("/projects/the-long-walk-home/photographs", "to all users of this server"),
        ];
        page.typed.handle = "bobb".into();
        (page.note, page.field) = ("No account here has that handle.".into(), "handle");
    }
    html(&page)
}

fn domains(some: bool) -> String {
    let row = |name: &str, lamp, state: &str, proven| DomainRow {
        id: "1".into(),
        name: name.into(),
        lamp,
        state: state.into(),
        proven,
        checked: proven.then_some(Moment(Timestamp(NOON))),
        proof_name: format!("_berth.{name}"),
        proof: "berth-Zx3kP0aQ9-vT_2mWcY7dLgZx3kP0aQ9-vT_2mWcY7dLg".into(),
        note: String::new(),
    };
    let mut page = DomainsPage {
        head: head("alice"),
        instance_host: "alice.example.com".into(),
        port: String::new(),
        domains: Vec::new(),
        most: 3,
        typed: String::new(),
        note: String::new(),
    };
    if some {
        let note = "DNS does not show it yet: neither a TXT record at _berth.alices-pages.org with the text below, nor alices-pages.org as an alias of alice.example.com.";
        page.domains = vec![
            row("docs.alice.org", "awake", "leads to your instance", true),
            DomainRow { note: note.into(), ..row("alices-pages.org", "moving", "not proven yet", false) },
        ];
        (page.typed, page.note) = (
            "localhost".into(),
            "That is not a domain. It looks like alice.org or docs.alice.org, without https:// or a path.".into(),
        );
    }
    html(&page)
}

fn agree() -> String {
    let [handle, owner, host] = ["alice", "bob", "bob.example.com"].map(Into::into);
    html(&ConsentPage { handle, owner, host, state: "s".into(), challenge: "c".into() })
}

fn change(minutes_ago: i64, to: Fact, cause: Cause) -> HistoryRow {
    HistoryRow {
        at: Moment(Timestamp(NOON - minutes_ago * 60_000)),
        lamp: format::lamp(to),
        to: format::headline(to),
        cause: format::cause(cause),
        last: (cause == Cause::Idle).then(|| last_work(LastWork { work: Work::Socket, at: minutes(minutes_ago + 5) })),
    }
}

fn minutes(ago: i64) -> Timestamp {
    Timestamp(NOON - ago * 60_000)
}

/// The awake report of an instance that is busy, or idle.
fn ledger(busy: bool) -> AwakeReport {
    let open = |work, count, holds| OpenWork { work, count, since: minutes(4), holds, moved_at: minutes(1) };
    let open = vec![open(Work::Request, 1, true), open(Work::AiCall, 2, true), open(Work::Socket, 1, false)];
    let jobs = vec![DeclaredJob { name: "nightly-build".into(), since: minutes(30), until: minutes(-90) }];
    AwakeReport {
        open: if busy { open } else { Vec::new() },
        jobs: if busy { jobs } else { Vec::new() },
        idle_since: minutes(6),
        last: Some(LastWork { work: Work::Socket, at: minutes(6) }),
        sleeps_at: None,
        sleeps_after_seconds: 300,
    }
}

fn session(device: &str, current: bool) -> SessionRow {
    let at = Moment(Timestamp(NOON));
    SessionRow { id: "1".into(), device: device.into(), ip: "203.0.113.x".into(), created: at, last_used: at, current }
}

fn passkey(name: &str) -> PasskeyRow {
    let at = Moment(Timestamp(NOON));
    PasskeyRow { id: "1".into(), name: name.into(), created: at, last_used: at }
}

fn passkeys(recovered: bool) -> String {
    let passkeys = vec![passkey("iCloud Keychain"), passkey("YubiKey 5")];
    html(&PasskeysPage { head: head("alice"), recovered, passkeys })
}

fn new_recovery_codes() -> String {
    let codes = (0..10).map(|n| format!("0123{n}-56789-ABCDE-FGHJK-MNPQR")).collect();
    html(&NewRecoveryCodesPage { head: head("alice"), codes })
}

fn deletion(note: &str) -> String {
    html(&DeleteAccountPage {
        head: head("alice"),
        instance_host: "alice.example.com".into(),
        grace: "7 days".into(),
        note: note.into(),
    })
}

fn leaving(may_stay: bool) -> String {
    html(&DeletionScheduledPage { handle: "alice".into(), due: Moment(Timestamp(NOON)), may_stay })
}

fn admin() -> String {
    let row = |handle: &str, fact, admin, tag| UserRow {
        handle: handle.into(),
        admin,
        tag,
        created: Moment(Timestamp(NOON)),
        passkeys: 2,
        recovery_codes_left: 9,
        webhooks: if tag == "suspended" { 12 } else { 0 },
        instance: Some(InstanceCell {
            lamp: format::lamp(fact),
            headline: format::headline(fact),
            since: Moment(Timestamp(NOON)),
            cause: format::cause(Cause::Idle),
            stuck: fact == Fact::Failed,
            failure: if fact == Fact::Failed { "The image is missing.".into() } else { String::new() },
            why: awake_view(&ledger(fact == Fact::Awake), fact == Fact::Awake),
        }),
    };
    html(&UsersPage {
        head: admin_head("alice"),
        awake: 1,
        webhooks: InboxCounts { waiting: 11, dead_letters: 1, bytes: 41_000 },
        alarms: 4,
        accounts: vec![
            row("alice", Fact::Awake, true, ""),
            row("bob", Fact::Frozen, false, ""),
            row("carol-of-the-north", Fact::Failed, false, ""),
            row("mallory", Fact::Stopped, false, "suspended"),
            row("trent", Fact::Stopped, false, "deletion scheduled"),
            UserRow { instance: None, ..row("dave", Fact::Absent, false, "") },
        ],
    })
}

fn error(status: u16, title: &str, detail: &str, request: &str) -> String {
    html(&ErrorPage { status, title, detail, request })
}

fn waiting(status: &InstanceStatus) -> String {
    html(&WaitingPage {
        handle: "alice".into(),
        address: "https://alice.example.com/notes?page=2".into(),
        stage: status.stage,
        failure: status.failure.clone(),
        dashboard: Some("https://app.example.com".into()),
    })
}

fn waiting_visitor() -> String {
    html(&WaitingPage {
        handle: "alice".into(),
        address: "https://alice.example.com/docs/".into(),
        stage: WakeStage::Started,
        failure: None,
        dashboard: None,
    })
}

fn message() -> String {
    html(&MessagePage {
        title: "This instance does not answer".into(),
        message: "It is awake, but the program inside does not answer on its port. Its owner can look into it.".into(),
        link: Some("https://app.example.com/".into()),
        label: Some("Go to your dashboard".into()),
    })
}
