//! The files that administrators write: the settings in `/etc/mig-cdi/config.toml` ([`Settings`]) and layout
//! files ([`layouts`]). Text in, values out: this crate opens no file.
//!
//! A command line flag wins over the settings, the settings over the defaults.
//!
//! # Example
//! ```
//! use mig_cdi_config::Settings;
//! use mig_cdi_model::NameStyle;
//!
//! let settings = Settings::parse("names = [\"uuid\"]\n[hook]\nhide = false\n")?;
//! assert_eq!(settings.names, [NameStyle::Uuid]);
//! assert_eq!(settings.kind.to_string(), "nvidia.com/mig");
//! assert!(!settings.hook.hide);
//!
//! let error = Settings::parse("\nspec-dirs = [\"cdi\"]").unwrap_err();
//! assert_eq!(error.to_string(), "line 2: spec-dirs: \"cdi\" is not an absolute path");
//! # Ok::<(), mig_cdi_config::SettingsError>(())
//! ```

pub mod engines;
mod hook;
pub mod layouts;
mod paths;
mod settings;
mod settings_error;
mod settings_text;

pub use hook::{HookSettings, Pattern, RequestPolicy};
pub use paths::{absolute_path, library_dir};
pub use settings::{PATH, SHIPPED, Settings};
pub use settings_error::SettingsError;
