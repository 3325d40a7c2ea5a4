//! A whole platform on a real Docker Engine: isolation, kills, outages, and the main job end to end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

mod containers;
mod cycles;
mod engine_away;
mod first_light;
mod kill9;
mod lost_answers;
mod processor_time;
mod webhooks;
