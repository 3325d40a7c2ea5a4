//! What the quota proxy costs beside no proxy at all and beside LiteLLM's, in one run on one upstream, with everything
//! on that is on in production: `scripts/bench quota`.

#[path = "../edge/aim.rs"]
mod aim;
mod aims;
mod answer;
#[path = "berth.rs"]
mod berth_role;
#[path = "../wake/figures.rs"]
#[expect(dead_code, reason = "it is made for the other benches too")]
mod figures;
mod groups;
mod line;
mod litellm;
mod load;
mod overshoot;
mod peers;
#[path = "../edge/process.rs"]
#[expect(dead_code, reason = "it is made for the bench of the edge too")]
mod process;
mod questions;
mod streams;
mod ungoverned;
mod upstream;

use clap::{Parser, ValueEnum};

use self::figures::Figures;
use self::groups::Group;
use self::peers::BenchSetup;

/// Measures the quota proxy beside LiteLLM's.
#[derive(Parser)]
struct BenchArguments {
    /// One line of JSON a figure, in place of the table.
    #[arg(long)]
    json: bool,
    /// Only these of the groups of figures.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Group>,
    /// How long each round lasts in which calls are counted.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// One of the processes of the bench alone, until it is told to end.
    #[arg(long)]
    role: Option<Role>,
    /// Where the provider listens, for the roles that pass calls on; where it is to listen, for `--role upstream`.
    #[arg(long, default_value_t = 0)]
    upstream: u16,
    /// What each account may spend in a month, for `--role berth`.
    #[arg(long, default_value_t = berth_role::PLENTY)]
    allowance_nanodollars: i64,
    /// Passed by cargo to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    /// The provider behind all proxies, and the program in every instance.
    Upstream,
    /// The platform, with people whose instances are awake.
    Berth,
    /// What the quota proxy would be if it only passed calls on.
    Ungoverned,
}

fn main() -> anyhow::Result<()> {
    let arguments = BenchArguments::parse();
    process::allow_many_files()?;
    match arguments.role {
        Some(Role::Upstream) => upstream::run(arguments.upstream),
        Some(Role::Berth) => berth_role::run(arguments.upstream, arguments.allowance_nanodollars),
        Some(Role::Ungoverned) => ungoverned::run(arguments.upstream),
        None => measure(&arguments),
    }
}

fn measure(arguments: &BenchArguments) -> anyhow::Result<()> {
    let mut figures = Figures::default();
    let stage = BenchSetup::open()?;
    stage.note_idle_memory(&mut figures)?;
    for group in Group::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(group) {
            eprintln!("measuring: {}", group.what());
            group.measure(&stage, arguments.seconds, &mut figures)?;
        }
    }
    stage.note_peak_memory(&mut figures)?;
    if arguments.json {
        print!("{}", figures.lines());
    } else {
        print!("{}\n{}", figures.table(), aim::table(&aims::AIMS, &figures));
    }
    Ok(())
}
