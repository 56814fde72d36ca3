//! Drafts that come into effect: what is wanted is compared with the settings that the engine has now, and with those that it would
//! have with our drafts. Nothing is drafted for what is in effect already, and no draft may take away what was there.

use super::{
    config_edit::{Edit, EditValue},
    config_format::{ConfigFormat, by_hand, parse},
    draft::Draft,
    request::ConfigureRequest,
};
use crate::{
    cli::EngineArg,
    engine_files::{CONTAINERD_2, ConfigReader, CriPlugin, EngineSettings, RejectedFile, value_at},
};
use mig_cdi_gen::{Error, engines::EngineVersion};
use serde_json::Value;
use std::collections::BTreeSet;

/// Form of a file: what it takes besides the settings, and the name that its tables of a plugin have.
#[derive(Debug, Default)]
pub(super) struct FileForm {
    pub edits: Vec<Edit>,
    pub plugin: Option<&'static str>,
}

/// A key of a file that overrides one of ours.
struct Overriding {
    key: String,
    /// In containerd 1.7 it may be the table of the plugin.
    is_table: bool,
}

/// The files of the machine, with drafts in their place.
struct WithDrafts<'a> {
    request: &'a ConfigureRequest<'a>,
    drafts: &'a [Draft],
}

impl ConfigReader for WithDrafts<'_> {
    type Error = Error;

    fn list(&self, dir: &str) -> Result<Option<Vec<String>>, Error> {
        let listed = match self.request.host.list(dir) {
            Ok(names) => names,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let below = format!("{}/", dir.trim_end_matches('/'));
        let drafted = self.drafts.iter().filter_map(|draft| draft.path.strip_prefix(&below));
        let drafted: Vec<_> = drafted.filter(|name| !name.contains('/')).collect();
        if listed.is_none() && drafted.is_empty() {
            return Ok(None);
        }
        let mut names: BTreeSet<String> = listed.into_iter().flatten().collect();
        names.extend(drafted.into_iter().map(str::to_owned));
        Ok(Some(names.into_iter().collect()))
    }

    fn value(&self, path: &str) -> Result<Option<Value>, Error> {
        let format = self.request.format();
        match self.drafts.iter().find(|draft| draft.path == path) {
            // The text was parsed when it was drafted.
            Some(draft) => Ok(parse(&draft.after, format).ok()),
            None => self.request.value(path, format),
        }
    }
}

impl ConfigureRequest<'_> {
    /// Format of the engine's files.
    pub(super) fn format(&self) -> ConfigFormat {
        ConfigFormat::of(self.engine_kind, self.engine.version.clone().ok())
    }

    /// Settings that are in effect now.
    ///
    /// # Errors
    /// When a file cannot be read, has two values of a setting, or keeps the engine from starting.
    pub(super) fn settings(&self) -> Result<EngineSettings, Error> {
        let settings = self.settings_with(&[])?;
        match &settings.rejected {
            None => Ok(settings),
            Some(RejectedFile { path, cause, cure }) => {
                let path = self.host.display_path(path);
                Err(Error::refused("configure", self.engine.label())
                    .because(format!("it does not start with {}: {cause}", path.display()))
                    .with_cure(cure))
            }
        }
    }

    fn settings_with(&self, drafts: &[Draft]) -> Result<EngineSettings, Error> {
        let reader = WithDrafts { request: self, drafts };
        let settings =
            EngineSettings::load(self.engine_kind, self.version(), &self.places, &reader)?;
        match &settings.ambiguous {
            None => Ok(settings),
            Some((path, keys)) => {
                Err(Error::refused("read", self.host.display_path(path).display())
                    .because(keys)
                    .with_cure("remove one of the two"))
            }
        }
    }

    /// Drafts what is wanted in the file `ours`, in the first of the `forms` in which it comes into effect, and `around` it what makes
    /// the engine read the file. `around` gets what is missing, as a file of that form has it. No drafts where everything wanted is in
    /// effect already.
    ///
    /// # Errors
    /// When another file would override ours, and when the drafts would change anything else.
    pub(super) fn draft_into_effect(
        &self,
        ours: &str,
        forms: &[FileForm],
        wanted: &[Edit],
        around: impl Fn(&mut Vec<Draft>, &[Edit]) -> Result<(), Error>,
    ) -> Result<Vec<Draft>, Error> {
        let now = self.settings()?;
        // A list of ours replaces that of the files before it, so it starts with what is in effect.
        let whole: Vec<Edit> = wanted.iter().map(|edit| edit.with_initial(&now)).collect();
        let mut expected = now.effective.clone();
        for edit in wanted {
            edit.apply(&mut expected).map_err(|error| {
                Error::failed("edit", self.host.display_path(ours).display())
                    .because(error)
                    .with_cure(self.set_by_hand(&now, &whole))
            })?;
        }
        if expected == now.effective {
            return Ok(Vec::new());
        }
        let missing: Vec<Edit> =
            whole.iter().filter(|edit| edit.is_missing(&now)).cloned().collect();
        let with = |form: &FileForm, edits: &[Edit]| -> Result<_, Error> {
            let named = |edits: &[Edit]| -> Vec<Edit> {
                edits.iter().map(|edit| edit.of_plugin(form.plugin)).collect()
            };
            let edits = [&form.edits[..], &named(edits)].concat();
            let mut drafts = vec![self.draft(ours, self.format(), &edits)?];
            around(&mut drafts, &named(&missing))?;
            let after = self.settings_with(&drafts)?;
            Ok((drafts, after))
        };
        let is_expected = |after: &EngineSettings| {
            after.rejected.is_none()
                && comparable(&after.effective, wanted) == comparable(&expected, wanted)
        };
        let mut first = None;
        for form in forms {
            let (drafts, after) = with(form, &whole)?;
            if is_expected(&after) {
                return Ok(drafts);
            }
            // Where a file of podman asks for it, lists are appended instead: ours leaves out what would be there twice.
            let parts: Vec<Edit> = whole.iter().map(|edit| edit.without_doubles(&after)).collect();
            if parts != whole {
                let (drafts, after) = with(form, &parts)?;
                if is_expected(&after) {
                    return Ok(drafts);
                }
            }
            first.get_or_insert(after);
        }
        Err(self.overridden(ours, &whole, &expected, &first.unwrap_or(now)))
    }

    /// Error for drafts that would not come into effect, or not alone.
    fn overridden(
        &self,
        ours: &str,
        wanted: &[Edit],
        expected: &Value,
        after: &EngineSettings,
    ) -> Error {
        let later = after.files.iter().skip_while(|(path, _)| path != ours).skip(1);
        // Only keys that do not come into effect: a file may set the others as we do.
        let (expected, now) = (comparable(expected, wanted), comparable(&after.effective, wanted));
        let lost: Vec<&Edit> = wanted
            .iter()
            .filter(|edit| value_at(&expected, &edit.path()) != value_at(&now, &edit.path()))
            .collect();
        let key_in =
            |file: &Value| lost.iter().find_map(|edit| edit.override_in(file, self.version()));
        let by = later.filter_map(|(path, file)| Some((path, file, key_in(file)?))).last();
        let error = Error::refused("configure", self.engine.label());
        let ours = self.host.display_path(ours).display().to_string();
        if let Some((path, file, Overriding { key, is_table })) = by {
            let path = self.host.display_path(path).display().to_string();
            let named = |edit: &Edit| edit.of_plugin(self.plugin_in(file));
            // A table of a plugin has other settings besides, and some of ours.
            let there: Vec<Edit> = match is_table {
                true => lost.into_iter().map(named).collect(),
                false => wanted.iter().map(named).collect(),
            };
            let there = by_hand(self.format(), &there);
            let (what, cure) = match is_table {
                true => (format!("table {key}"), format!("set in {path}: {there}")),
                false => (key.clone(), format!("remove {key} from {path}, or set there: {there}")),
            };
            return error
                .because(format!("{path} is read after {ours}, and its {what} would override ours"))
                .with_cure(cure);
        }
        let versions = after.files.iter().filter_map(|(_, file)| file.get("version")?.as_i64());
        let versions: BTreeSet<_> =
            versions.filter(|_| self.engine_kind == EngineArg::Containerd).collect();
        if let (Some(older), Some(newer)) = (versions.first(), versions.last())
            && older != newer
        {
            let cause = format!(
                "its files are of versions {older} and {newer}, and settings of some would no longer be in effect with ours"
            );
            return error
                .because(cause)
                .with_cure(format!("write all of them in version {newer}, and configure again"));
        }
        error
            .because(format!("with our settings in {ours} others would no longer be in effect"))
            .with_cure(self.set_by_hand(after, wanted))
    }

    /// The name by which a file of containerd 2 has the table of the CRI plugin; `None` for other engines, whose names are one.
    fn plugin_in(&self, file: &Value) -> Option<&'static str> {
        let is_containerd = self.engine_kind == EngineArg::Containerd;
        (is_containerd && self.version() >= CONTAINERD_2).then(|| CriPlugin::name_in(file))
    }

    /// The settings to make by hand, as the engine's main file has them.
    fn set_by_hand(&self, settings: &EngineSettings, wanted: &[Edit]) -> String {
        let named = |edit: &Edit| match self.engine_kind {
            EngineArg::Containerd => edit.of_plugin(Some(settings.name_in_main_file())),
            _ => edit.clone(),
        };
        let named: Vec<Edit> = wanted.iter().map(named).collect();
        format!("set by hand: {}", by_hand(self.format(), &named))
    }
}

/// Settings in a form in which the order of the wanted lists does not count, and what only makes the engine read our file is left out.
/// The version by which containerd reads its files stays: with another one the settings of other plugins change.
fn comparable(effective: &Value, wanted: &[Edit]) -> Value {
    let mut value = effective.clone();
    if let Some(table) = value.as_object_mut() {
        table.remove("imports");
    }
    for edit in wanted.iter().filter(|edit| matches!(edit.value, EditValue::Contains { .. })) {
        let pointer: String = edit.keys.iter().map(|key| format!("/{key}")).collect();
        if let Some(list) = value.pointer_mut(&pointer).and_then(Value::as_array_mut) {
            list.sort_by_key(Value::to_string);
        }
    }
    value
}

impl Edit {
    fn path(&self) -> Vec<&str> {
        self.keys.iter().map(String::as_str).collect()
    }

    /// The edit of a list, which starts with what is in effect where our file does not have it.
    fn with_initial(&self, now: &EngineSettings) -> Edit {
        let EditValue::Contains { items, .. } = &self.value else { return self.clone() };
        // A single text where a list is needed is refused; the advice keeps it.
        let text = now.value(&self.path()).and_then(Value::as_str);
        let initial = match text {
            Some(text) => vec![text.to_owned()],
            None => now.strings(&self.path()),
        };
        Edit::contains(&self.path(), items.clone(), initial)
    }

    /// True where the value is not in effect.
    fn is_missing(&self, now: &EngineSettings) -> bool {
        !matches!(self.missing(now.value(&self.path())), Ok(None))
    }

    /// The edit in a file in which the table of the plugin has this name.
    fn of_plugin(&self, name: Option<&str>) -> Edit {
        let mut edit = self.clone();
        if let ([table, plugin, ..], Some(name)) = (&mut edit.keys[..], name)
            && table == "plugins"
        {
            name.clone_into(plugin);
        }
        edit
    }

    /// The edit of a list, without what the list has twice.
    fn without_doubles(&self, after: &EngineSettings) -> Edit {
        let EditValue::Contains { items, initial } = &self.value else { return self.clone() };
        let list = after.strings(&self.path());
        let is_single = |item: &&String| list.iter().filter(|other| other == item).count() < 2;
        let single = |items: &[String]| items.iter().filter(is_single).cloned().collect();
        Edit::contains(&self.path(), single(items), single(initial))
    }

    /// Returns the key or table of a file that overrides this edit.
    fn override_in(&self, file: &Value, version: EngineVersion) -> Option<Overriding> {
        let is_of_plugin = self.keys.first().is_some_and(|key| key == "plugins");
        let merges = version >= CONTAINERD_2;
        let there = self.of_plugin(merges.then(|| CriPlugin::name_in(file)));
        let path = there.path();
        if is_of_plugin && !merges {
            let key = || path[..2].join(".");
            return value_at(file, &path[..2]).map(|_| Overriding { key: key(), is_table: true });
        }
        value_at(file, &path).map(|_| Overriding { key: there.key(), is_table: false })
    }
}
