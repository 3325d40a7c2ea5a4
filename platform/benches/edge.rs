//! What the edge costs beside no proxy at all and beside others, in one run on one upstream: `scripts/bench edge`.

#[path = "edge/aim.rs"]
mod aim;
#[path = "edge/aims.rs"]
mod aims;
#[path = "edge/berth.rs"]
mod berth_role;
#[path = "wake/figures.rs"]
#[expect(dead_code, reason = "it is made for the other benches too")]
mod figures;
#[path = "edge/groups.rs"]
mod groups;
#[path = "edge/line.rs"]
mod line;
#[path = "edge/peers.rs"]
mod peers;
#[path = "wake/people.rs"]
#[expect(dead_code, reason = "it is made for the other benches too")]
mod people;
#[path = "edge/process.rs"]
mod process;
#[path = "edge/streams.rs"]
mod streams;
#[path = "edge/upstream.rs"]
mod upstream;
#[path = "edge/wrk.rs"]
mod wrk;

use clap::{Parser, ValueEnum};

use self::figures::Figures;
use self::groups::Group;
use self::peers::Stage;

/// Measures the edge beside nginx, Caddy and configurable-http-proxy.
#[derive(Parser)]
struct Words {
    /// One line of JSON a figure, in place of the table.
    #[arg(long)]
    json: bool,
    /// Only these of the groups of figures.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Group>,
    /// How long each round lasts in which requests are counted.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// One of the processes of the bench alone, until it is told to end.
    #[arg(long, requires_if("berth", "upstream"))]
    role: Option<Role>,
    /// Where the instances' program listens, for `--role berth`; where it is to listen, for `--role upstream`.
    #[arg(long)]
    upstream: Option<u16>,
    /// How many have signed up, for `--role berth`.
    #[arg(long, default_value_t = 1)]
    people: usize,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    /// The program in every instance, and what everybody passes requests on to.
    Upstream,
    /// The platform, with people whose instances are awake.
    Berth,
}

fn main() -> anyhow::Result<()> {
    let words = Words::parse();
    process::allow_many_files()?;
    match words.role {
        Some(Role::Upstream) => upstream::run(words.upstream.unwrap_or(0)),
        Some(Role::Berth) => berth_role::run(words.upstream.unwrap_or(0), words.people),
        None => measure(&words),
    }
}

fn measure(words: &Words) -> anyhow::Result<()> {
    let mut figures = Figures::default();
    let stage = Stage::open()?;
    for group in Group::value_variants() {
        if words.only.is_empty() || words.only.contains(group) {
            eprintln!("measuring: {}", group.what());
            group.measure(&stage, words.seconds, &mut figures)?;
        }
    }
    if words.json {
        print!("{}", figures.lines());
    } else {
        print!("{}\n{}", figures.table(), aim::table(&aims::AIMS, &figures));
    }
    Ok(())
}
