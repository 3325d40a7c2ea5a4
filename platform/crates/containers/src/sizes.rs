//! Instance sizes: named sets of resource limits and idle timeouts.

use std::time::Duration;

use berth_ground::settings::SettingsReader;

/// The name of the size that is set without BERTH_SIZES.
const STANDARD: &str = "standard";
/// The fields of a size in `BERTH_SIZES`, each with the variable of its value in the standard size.
const FIELDS: [(&str, &str); 8] = [
    ("memory_mib", "BERTH_MEMORY_MIB"),
    ("swap_mib", "BERTH_SWAP_MIB"),
    ("cpus", "BERTH_CPUS"),
    ("pids", "BERTH_PIDS"),
    ("disk_mib", "BERTH_DISK_MIB"),
    ("freeze_after_seconds", "BERTH_FREEZE_AFTER_SECONDS"),
    ("stop_after_seconds", "BERTH_STOP_AFTER_SECONDS"),
    ("remove_after_seconds", "BERTH_REMOVE_AFTER_SECONDS"),
];

/// The resource limits of an instance, and its idle timeouts.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceSize {
    pub name: String,
    pub memory_mib: u32,
    /// Swap beyond the memory, into which a frozen instance is reclaimed.
    pub swap_mib: u32,
    pub nano_cpus: i64,
    pub pids: u32,
    pub disk_mib: u32,
    /// Idle timeouts: the instance is first frozen, later stopped, and last its container is removed; the volume is
    /// kept.
    pub freeze_after: Duration,
    pub stop_after: Duration,
    pub remove_after: Duration,
}

/// Reads the standard size from its variables, then those in `BERTH_SIZES`: `NAME field=value ..; NAME ..`. An omitted
/// field has the standard size's value.
pub(super) fn read_sizes(settings: &mut SettingsReader<'_>) -> Vec<InstanceSize> {
    let standard = FIELDS.map(|(_, variable)| settings.text(variable));
    let mut sizes: Vec<InstanceSize> =
        read_size(settings, STANDARD, &standard, |i| FIELDS[i].1.to_owned()).into_iter().collect();
    for text in settings.text("BERTH_SIZES").split(';').map(str::trim).filter(|text| !text.is_empty()) {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default().to_owned();
        if !is_name(&name) || sizes.iter().any(|size| size.name == name) {
            settings.mistake(format!(
                "BERTH_SIZES names a size \"{name}\"; use small letters and digits, each name once, and not {STANDARD}."
            ));
            continue;
        }
        let mut values = standard.clone();
        for word in words {
            let known = word
                .split_once('=')
                .and_then(|(field, value)| FIELDS.iter().position(|(name, _)| *name == field).map(|i| (i, value)));
            match known {
                Some((i, value)) => value.clone_into(&mut values[i]),
                None => settings.mistake(format!(
                    "BERTH_SIZES says \"{word}\" of {name}; write field=value with a field of: {}.",
                    FIELDS.map(|(field, _)| field).join(", ")
                )),
            }
        }
        sizes.extend(read_size(settings, &name, &values, |i| format!("BERTH_SIZES: {name}: {}", FIELDS[i].0)));
    }
    sizes
}

fn read_size(
    settings: &mut SettingsReader<'_>,
    name: &str,
    values: &[String; 8],
    field: impl Fn(usize) -> String,
) -> Option<InstanceSize> {
    // Mistakes in other sizes do not count against this one.
    let before = settings.mistakes().len();
    let mut whole = |i: usize, least: u32| {
        let number = values[i].parse().ok().filter(|number| *number >= least);
        number.unwrap_or_else(|| {
            let (field, value) = (field(i), &values[i]);
            settings.mistake(format!("{field} is \"{value}\", which is not a whole number of at least {least}."));
            1
        })
    };
    let (memory_mib, swap_mib, pids, disk_mib) = (whole(0, 16), whole(1, 0), whole(3, 8), whole(4, 32));
    let seconds = [5, 6, 7].map(|i| Duration::from_secs(u64::from(whole(i, 1))));
    // The range also excludes NaN and infinity, which parse as numbers.
    let cpus = values[2].parse::<f64>().ok().filter(|cpus| (0.01..=1024.0).contains(cpus));
    if cpus.is_none() {
        let (field, value) = (field(2), &values[2]);
        settings.mistake(format!("{field} is \"{value}\"; it must be a number of cores from 0.01 to 1024."));
    }
    for (i, pair) in [(6, &seconds[..2]), (7, &seconds[1..])] {
        // Only if every value was valid: comparing placeholders would report mistakes that do not exist.
        if before == settings.mistakes().len() && pair[1] <= pair[0] {
            let (later, sooner) = (field(i), field(i - 1));
            settings.mistake(format!(
                "{later} must be more than {sooner}: an instance is frozen first, stopped later, and its container \
                 removed last."
            ));
        }
    }
    let [freeze_after, stop_after, remove_after] = seconds;
    #[expect(clippy::cast_possible_truncation, reason = "at most 1024 cores, checked above")]
    let nano_cpus = (cpus? * 1e9) as i64;
    let name = name.to_owned();
    (before == settings.mistakes().len()).then_some(InstanceSize {
        name,
        memory_mib,
        swap_mib,
        nano_cpus,
        pids,
        disk_mib,
        freeze_after,
        stop_after,
        remove_after,
    })
}

fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name != STANDARD
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sizes: &str) -> (Vec<InstanceSize>, Vec<String>) {
        let lookup = |name: &str| (name == "BERTH_SIZES").then(|| sizes.to_owned());
        let mut settings = SettingsReader::new(&lookup);
        (read_sizes(&mut settings), settings.mistakes().to_vec())
    }

    #[test]
    fn a_size_differs_from_the_standard_where_it_says_so() {
        let (sizes, mistakes) = read("large memory_mib=2048 cpus=2.5; patient freeze_after_seconds=600");
        assert_eq!(mistakes, Vec::<String>::new());
        let [standard, large, patient] = &sizes[..] else { panic!("three sizes, not {sizes:?}") };
        assert_eq!(standard.name, "standard");
        let expected =
            InstanceSize { name: "large".into(), memory_mib: 2048, nano_cpus: 2_500_000_000, ..standard.clone() };
        assert_eq!(*large, expected);
        assert_eq!((patient.freeze_after.as_secs(), patient.memory_mib), (600, standard.memory_mib));
    }

    #[test]
    fn a_size_that_cannot_be_is_told_by_its_name_and_field() {
        for (text, words) in [
            ("large memory_mib=much", "BERTH_SIZES: large: memory_mib is \"much\""),
            ("large memory=1", "memory=1"),
            ("standard memory_mib=64", "\"standard\""),
            ("a pids=64; a pids=65", "each name once"),
            ("a cpus=0", "cores"),
            ("a freeze_after_seconds=1800", "frozen first"),
        ] {
            let (_, mistakes) = read(text);
            assert!(mistakes.iter().any(|mistake| mistake.contains(words)), "{text}: {mistakes:?}");
        }
    }
}
