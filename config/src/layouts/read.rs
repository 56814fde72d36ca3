//! Parses layout files: the rules of mig-parted's format, on top of the YAML tree.

use super::{
    Entry, GpuLayoutSetting, Layouts, LayoutsError, SourceLocation,
    gpu_selector::{DeviceFilter, DeviceFilterError, GpuSelector, GpuSelectorError},
    mig_devices,
    yaml::{self, YamlField, YamlNode, YamlValue, bad, quoted},
};

impl Layouts {
    /// Parses a layout file. All of its configurations are checked, not only the one that will be used.
    ///
    /// # Errors
    /// [`LayoutsError`] for the first mistake, with its line and what to write instead.
    pub fn parse(text: &str) -> Result<Layouts, LayoutsError> {
        let root = yaml::read(text)?
            .ok_or_else(|| bad(1, "an empty file").with_cure("begin with version: v1"))?;
        let [version, configs] = fields(&root, "the file", ["version", "mig-configs"])?;
        let version =
            &version.ok_or_else(|| root.bad("no version").with_cure("write version: v1"))?.value;
        // mig-parted refuses any other version too (`api/spec/v1/spec.go`, `Spec.UnmarshalJSON`).
        if !matches!(&version.value, YamlValue::Text { text, .. } if text == "v1") {
            let cause = format!("version {}", version.kind());
            return Err(version.bad(cause).with_cure("write version: v1"));
        }
        let configs =
            configs.ok_or_else(|| root.bad("no mig-configs").with_cure("write at least one"))?;
        let (line, node) = (configs.line, &configs.value);
        let YamlValue::Map(map) = &node.value else {
            let cause = format!("mig-configs is {}", node.kind());
            return Err(node.bad(cause).with_cure("write a name for each list"));
        };
        // mig-parted needs one configuration, and an entry in each (`Spec.UnmarshalJSON`).
        if map.is_empty() {
            return Err(node
                .bad("no configuration in mig-configs")
                .with_cure("write at least one"));
        }
        let configs = map.iter().map(|field| Ok((field.key.clone(), entries(field)?)));
        Ok(Layouts { line, configs: configs.collect::<Result<_, LayoutsError>>()? })
    }

    /// Returns the names of the configurations, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.configs.iter().map(|(name, _)| name.as_str())
    }
}

/// Returns the fields with these keys; any other key is an error, since it could change what the file means.
fn fields<'a, const N: usize>(
    node: &'a YamlNode,
    what: &str,
    keys: [&str; N],
) -> Result<[Option<&'a YamlField>; N], LayoutsError> {
    let YamlValue::Map(map) = &node.value else {
        let cause = format!("{what} is {}", node.kind());
        return Err(node.bad(cause).with_cure(format!("write {}", keys.join(", "))));
    };
    let mut fields = [None; N];
    for field in map {
        let Some(position) = keys.iter().position(|known| *known == field.key) else {
            let bad = bad(field.line, format!("unknown field {}", quoted(&field.key)));
            return Err(bad.with_cure(format!("{what} has {}", keys.join(", "))));
        };
        fields[position] = Some(field);
    }
    Ok(fields)
}

fn entries(field: &YamlField) -> Result<Vec<Entry>, LayoutsError> {
    match &field.value.value {
        YamlValue::List(list) if !list.is_empty() => list.iter().map(entry).collect(),
        _ => {
            let cause = format!("{} is not a list of entries", quoted(&field.key));
            Err(bad(field.line, cause).with_cure("begin each with - devices:"))
        }
    }
}

fn entry(node: &YamlNode) -> Result<Entry, LayoutsError> {
    let keys = ["device-filter", "devices", "mig-enabled", "mig-devices"];
    let [filter, gpus, enabled, instances] =
        fields(node, "an entry", keys)?.map(|field| field.map(|field| &field.value));
    let need = |field: &str| node.bad(format!("no {field}")).with_cure("an entry needs it");
    let enabled = boolean(enabled.ok_or_else(|| need("mig-enabled"))?)?;
    let is_empty = |node: &YamlNode| match &node.value {
        YamlValue::Map(map) => map.is_empty(),
        YamlValue::List(list) => list.is_empty(),
        YamlValue::Text { .. } => is_null(node),
    };
    // As in mig-parted, null counts as no field (`api/spec/v1/spec.go`, `MigConfigSpec.UnmarshalJSON`).
    let layout = match (enabled, instances.filter(|node| !is_null(node))) {
        (true, Some(node)) => GpuLayoutSetting::Partitioned(mig_devices::desired_layout(node)?),
        (true, None) => {
            let cure = "write {} for mig mode on and no instance";
            return Err(node.bad("no mig-devices").with_cure(cure));
        }
        (false, None) => GpuLayoutSetting::Off,
        (false, Some(node)) if is_empty(node) => GpuLayoutSetting::Off,
        (false, Some(node)) => {
            let bad = node.bad("mig-devices with mig-enabled false");
            return Err(bad.with_cure("omit one of the two"));
        }
    };
    Ok(Entry {
        location: SourceLocation::Line(node.line),
        filters: filter.map_or(Ok(Vec::new()), filters)?,
        gpus: gpu_selectors(gpus.ok_or_else(|| need("devices"))?)?,
        layout,
    })
}

fn is_null(node: &YamlNode) -> bool {
    // The spellings of YAML 1.1 (<https://yaml.org/type/null.html>).
    let is_null = |text: &str| matches!(text, "" | "~" | "null" | "Null" | "NULL");
    matches!(&node.value, YamlValue::Text { text, is_plain: true } if is_null(text))
}

/// Reads a boolean as YAML 1.1 has it, which mig-parted reads.
fn boolean(node: &YamlNode) -> Result<bool, LayoutsError> {
    // <https://yaml.org/type/bool.html>; a quoted "true" is a text there, and an error in mig-parted.
    let text = match &node.value {
        YamlValue::Text { text, is_plain: true } => text.to_ascii_lowercase(),
        _ => String::new(),
    };
    match text.as_str() {
        "true" | "yes" | "on" | "y" => Ok(true),
        "false" | "no" | "off" | "n" => Ok(false),
        _ => {
            let cause = format!("mig-enabled is {}", node.kind());
            Err(node.bad(cause).with_cure("write true or false"))
        }
    }
}

/// Returns a text, or each text of a list, with its node: mig-parted reads `devices` and `device-filter` in both forms
/// (`MigConfigSpec.UnmarshalJSON`).
fn texts<'a>(node: &'a YamlNode, what: &str) -> Result<Vec<(&'a str, &'a YamlNode)>, LayoutsError> {
    let text = |node: &'a YamlNode| match &node.value {
        YamlValue::Text { text, .. } => Ok((text.as_str(), node)),
        _ => Err(node.bad(format!("{} in {what}", node.kind()))),
    };
    match &node.value {
        YamlValue::List(list) => list.iter().map(text).collect(),
        _ => Ok(vec![text(node)?]),
    }
}

fn filters(node: &YamlNode) -> Result<Vec<DeviceFilter>, LayoutsError> {
    let texts = texts(node, "device-filter")?;
    // mig-parted takes the empty text for no filter.
    let given = texts.into_iter().filter(|(text, _)| !text.is_empty());
    let parse = |(text, node): (&str, &YamlNode)| {
        text.parse().map_err(|error: DeviceFilterError| {
            node.bad(error.cause).with_cure(DeviceFilterError::CURE)
        })
    };
    given.map(parse).collect()
}

fn gpu_selectors(node: &YamlNode) -> Result<Vec<(GpuSelector, SourceLocation)>, LayoutsError> {
    let is_list = matches!(node.value, YamlValue::List(_));
    let selector = |(text, node): (&str, &YamlNode)| {
        let location = SourceLocation::Line(node.line);
        let selector: GpuSelector = text
            .parse()
            .map_err(|error: GpuSelectorError| LayoutsError::of_gpu(location.clone(), &error))?;
        match (&selector, is_list) {
            (GpuSelector::All, true) => {
                Err(node.bad("all in a list").with_cure("write devices: all"))
            }
            // An error in mig-parted too (`api/spec/v1/spec.go`, `MigConfigSpec.UnmarshalJSON`).
            (GpuSelector::Index(_), false) => {
                let bad = node.bad("a gpu number outside a list");
                Err(bad.with_cure(format!("write devices: [{text}]")))
            }
            _ => Ok((selector, location)),
        }
    };
    texts(node, "devices")?.into_iter().map(selector).collect()
}

impl Layouts {
    pub(super) fn config(&self, name: &str) -> Result<&[Entry], LayoutsError> {
        let config = self.configs.iter().find(|(known, _)| known == name);
        config.map(|(_, entries)| entries.as_slice()).ok_or_else(|| {
            let nearest = self.names().min_by_key(|known| distance(known, name));
            let nearest = quoted(nearest.unwrap_or_default());
            let names: Vec<_> = self.names().map(quoted).collect();
            let cure = format!("did you mean {nearest}? the file has {}", names.join(", "));
            bad(self.line, format!("no layout {}", quoted(name))).with_cure(cure)
        })
    }
}

/// Returns the Levenshtein distance of two texts, of their first 64 characters each.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let least = row[j].min(row[j + 1]) + 1;
            let changed = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = least.min(changed);
        }
    }
    row[b.len()]
}
