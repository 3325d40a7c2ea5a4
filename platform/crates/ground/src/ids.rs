//! Typed ids (newtypes): the compiler refuses an account's id where an instance's is expected.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "sea-orm", derive(sea_orm::DeriveValueType))]
        pub struct $name(pub Uuid);

        #[cfg(feature = "sea-orm")]
        impl sea_orm::TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, sea_orm::DbErr> {
                // sea-orm requires this of every key, for databases with auto-increment; our keys are UUIDs, so it is
                // never called.
                Err(sea_orm::DbErr::ConvertFromU64(stringify!($name)))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// Identifies an account. Also its WebAuthn user handle, hence random and never shown (WebAuthn 14.6.1).
    AccountId
);
id!(
    /// Identifies an instance: one container, one volume, one hostname.
    InstanceId
);
id!(
    /// Identifies a session in the list of sessions. Not a secret: the cookie holds another value.
    SessionId
);
id!(
    /// Identifies a hold on money for one provider call; the receipt that settles the hold has the same id.
    HoldId
);
