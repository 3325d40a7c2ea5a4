//! What strangers, tenants and their pages try: routes and roles, forged headers, request smuggling, programs that
//! break HTTP.

mod access;
mod headers;
mod misbehaving;
mod smuggling;
