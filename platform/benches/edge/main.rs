//! The edge benchmark: cost of proxying compared with no proxy, nginx, Caddy and configurable-http-proxy, in one run
//! against one upstream. Run by `scripts/bench edge`.

mod aim;
mod aims;
#[path = "berth.rs"]
mod berth_role;
#[path = "../wake/figures.rs"]
#[expect(dead_code, reason = "it is shared with the other benches")]
mod figures;
mod groups;
mod keep_alive_client;
mod peers;
mod process;
mod streams;
mod upstream;
mod wrk;

use clap::{Parser, ValueEnum};

use self::figures::Figures;
use self::groups::Group;
use self::peers::BenchSetup;

/// Measures the edge beside nginx, Caddy and configurable-http-proxy.
#[derive(Parser)]
struct BenchArguments {
    /// One line of JSON a figure, in place of the table.
    #[arg(long)]
    json: bool,
    /// Measure only these groups of figures.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Group>,
    /// The length of each measured round.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Run only one of the processes of the benchmark, until it is terminated.
    #[arg(long, requires_if("berth", "upstream"))]
    role: Option<Role>,
    /// The port of the upstream: to connect to with `--role berth`, to listen on with `--role upstream`.
    #[arg(long)]
    upstream: Option<u16>,
    /// The number of accounts, for `--role berth`.
    #[arg(long, default_value_t = 1)]
    people: usize,
    /// Passed by cargo to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    /// The program in every instance, to which all proxies forward.
    Upstream,
    /// The platform, with instances that are awake.
    Berth,
}

fn main() -> anyhow::Result<()> {
    let arguments = BenchArguments::parse();
    process::allow_many_files()?;
    match arguments.role {
        Some(Role::Upstream) => upstream::run(arguments.upstream.unwrap_or(0)),
        Some(Role::Berth) => berth_role::run(arguments.upstream.unwrap_or(0), arguments.people),
        None => measure(&arguments),
    }
}

fn measure(arguments: &BenchArguments) -> anyhow::Result<()> {
    let mut figures = Figures::default();
    let stage = BenchSetup::open()?;
    for group in Group::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(group) {
            eprintln!("measuring: {}", group.description());
            group.measure(&stage, arguments.seconds, &mut figures)?;
        }
    }
    if arguments.json {
        print!("{}", figures.lines());
    } else {
        print!("{}\n{}", figures.table(), aim::table(&aims::AIMS, &figures));
    }
    Ok(())
}
