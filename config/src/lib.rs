//! The files that administrators write: the settings in `/etc/mig-cdi/config.toml` ([`Settings`]) and layout
//! files ([`layouts`]). Text in, values out: this crate opens no file.
//!
//! A command line flag wins over the settings, the settings over the defaults.
//!
//! # Example
//! ```
//! use mig_cdi_config::{Settings, SettingsLocation};
//!
//! let settings = Settings::parse("names = [\"uuid\"]\n[hook]\nhide = false\n")?;
//! assert_eq!(settings.names, ["uuid"]);
//! assert_eq!(settings.kind.to_string(), "nvidia.com/mig");
//! assert!(!settings.hook.hide);
//!
//! let error = Settings::parse("\nkindd = \"x\"").unwrap_err();
//! assert_eq!(error.location, SettingsLocation::Line(2));
//! # Ok::<(), mig_cdi_config::SettingsError>(())
//! ```

pub mod engines;
mod hook;
pub mod layouts;
mod settings;
mod settings_error;

pub use hook::{HookSettings, Pattern, RequestPolicy};
pub use settings::{PATH, SHIPPED, Settings};
pub use settings_error::{SettingsError, SettingsLocation};
