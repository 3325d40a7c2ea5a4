//! Configuration drift: compares running containers with the configuration with which they were created, to find limits
//! that were lifted by hand (`docker update`, say).

use bollard::Docker;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value};

use super::inspection::CONCURRENT_INSPECTIONS;
use super::{errors, host_config, labels};
use crate::config::ContainerConfig;
use crate::{ConfigurationDrift, ContainerSpec, HostError};

/// The most containers that a report names; with more, the operator has to look at all of them anyway.
const MAX_NAMED: usize = 20;
/// Fields that the Engine sets and that a create request does not have.
const SET_BY_ENGINE: [&str; 5] = ["CgroupnsMode", "ConsoleSize", "Isolation", "MaskedPaths", "ReadonlyPaths"];
/// Fields that every unprivileged container has: the parts of /proc that the Engine masks. A container without them is
/// privileged.
const REQUIRED: [&str; 2] = ["MaskedPaths", "ReadonlyPaths"];

/// Compares every running or frozen container.
pub(super) async fn detect(
    engine: &Docker,
    config: &ContainerConfig,
    parent: &str,
) -> Result<ConfigurationDrift, HostError> {
    let mut filters = labels::filter(&config.network);
    filters.insert("status".to_owned(), ["running", "paused"].map(str::to_owned).to_vec());
    let live = ListContainersOptionsBuilder::default().filters(&filters).build();
    let ids = engine.list_containers(Some(live)).await?.into_iter().filter_map(|container| container.id);
    let inspect = |id: String| async move {
        match engine.inspect_container(&id, None::<InspectContainerOptions>).await {
            // Race: the container was removed after the list was read.
            Err(error) if errors::is_absent(&error) => Ok(None),
            there => there.map(Some),
        }
    };
    let mut found = ConfigurationDrift::default();
    let mut looks = futures_util::stream::iter(ids).map(inspect).buffer_unordered(CONCURRENT_INSPECTIONS);
    while let Some(look) = looks.try_next().await? {
        let Some(there) = look else { continue };
        match differences(config, parent, &there) {
            Some(fields) if fields.is_empty() => found.as_made += 1,
            Some(fields) => {
                let name = there.name.as_deref().unwrap_or_default().trim_start_matches('/');
                found.changed.push(format!("{name} ({})", fields.join(", ")));
            }
            None => found.older += 1,
        }
    }
    found.changed.sort_unstable();
    found.changed.truncate(MAX_NAMED);
    Ok(found)
}

/// The names of the fields with drift; `None` for a container of another version, image or size, which cannot be
/// compared with the current configuration.
fn differences(config: &ContainerConfig, parent: &str, there: &ContainerInspectResponse) -> Option<Vec<String>> {
    let told = there.config.as_ref()?;
    let labelled = told.labels.as_ref()?;
    let marks = labels::read(&config.network, labelled)?;
    let size = config.size(&marks.size)?;
    if marks.kind != host_config::kind(config, &marks.image, size, &marks.image_id, parent) {
        return None;
    }
    let env = |name: &str| {
        let vars = told.env.iter().flatten();
        vars.filter_map(|var| var.split_once('=')).find(|(var, _)| *var == name).map(|(_, value)| value.to_owned())
    };
    let spec = ContainerSpec {
        instance: marks.instance,
        slot: marks.slot,
        image: marks.image,
        image_id: None,
        size: marks.size,
        handle: env("BERTH_HANDLE").unwrap_or_default(),
        url: env("BERTH_URL").unwrap_or_default(),
        token: env("ANTHROPIC_API_KEY").unwrap_or_default(),
    };
    // The expected configuration comes from the function that makes create requests, so the two cannot diverge.
    let volume = format!("{}-{}", config.network, spec.instance);
    let made = host_config::body(config, &spec, size, &marks.image_id, parent, &volume);

    let mut fields = differing(&plain(made.host_config.as_ref()), &plain(there.host_config.as_ref()));
    let mut expect = |field: &str, is_so: bool| {
        if !is_so {
            fields.push(field.to_owned());
        }
    };
    let hash = |labels: Option<&std::collections::HashMap<String, String>>| labels?.get(labels::SPEC_HASH).cloned();
    expect("what it was made with", hash(Some(labelled)) == hash(made.labels.as_ref()));
    expect("Image", there.image.as_deref() == Some(&marks.image_id));
    expect("User", told.user == made.user);
    // The image may add variables of its own, so ours must be a subset.
    expect("Env", made.env.iter().flatten().all(|var| told.env.iter().flatten().any(|there| there == var)));
    // A second mount could expose a path of the host.
    expect("Mounts", there.mounts.iter().flatten().count() == 1);
    let networks = there.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let bridge = host_config::bridge_name(config, spec.slot.bridge());
    let address = spec.slot.address(config.subnet).to_string();
    // Exactly its own bridge and address, by which firewall, edge and quota proxy identify the instance.
    let on_its_bridge = networks.is_some_and(|networks| {
        let asked = networks.get(&bridge).and_then(|endpoint| endpoint.ipam_config.as_ref()?.ipv4_address.as_ref());
        networks.len() == 1 && asked == Some(&address)
    });
    expect("Networks", on_its_bridge);
    Some(fields)
}

/// `value` as JSON without its empty fields: depending on the Engine's version, an unset field is null, 0, -1, "" or an
/// empty list.
fn plain<T: serde::Serialize>(value: Option<T>) -> Map<String, Value> {
    match serde_json::to_value(value).ok().and_then(without_empty) {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn without_empty(value: Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        // Some versions of the Engine write an unset number as -1.
        Value::Number(number) if number.as_i64().is_some_and(|number| number == 0 || number == -1) => None,
        Value::String(text) if text.is_empty() => None,
        Value::Array(items) => {
            let items: Vec<Value> = items.into_iter().filter_map(without_empty).collect();
            (!items.is_empty()).then_some(Value::Array(items))
        }
        Value::Object(fields) => {
            let fields: Map<String, Value> =
                fields.into_iter().filter_map(|(name, value)| Some((name, without_empty(value)?))).collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        scalar => Some(scalar),
    }
}

/// The names of fields that differ, or that only one side has.
fn differing(made: &Map<String, Value>, there: &Map<String, Value>) -> Vec<String> {
    let mut fields: Vec<String> = made.keys().chain(there.keys()).cloned().collect();
    fields.sort_unstable();
    fields.dedup();
    fields.retain(|field| match (made.get(field), there.get(field)) {
        (None, Some(_)) => !SET_BY_ENGINE.contains(&field.as_str()),
        (made, there) => made != there,
    });
    fields.extend(REQUIRED.iter().filter(|field| !there.contains_key(**field)).map(|field| (*field).to_owned()));
    fields
}
