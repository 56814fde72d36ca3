//! The rules of a layout file.

use super::{
    BadLayouts, Entry, Layout, Layouts, Origin, devices,
    gpu::{DeviceFilter, GpuWord},
    yaml::{self, Field, Node, Value, bad, shown},
};

impl Layouts {
    /// Reads a layout file. All of its configurations are checked, not only the one that will be
    /// used.
    ///
    /// # Errors
    /// The first thing that is not of the format, with its line and what to write.
    pub fn parse(text: &str) -> Result<Layouts, BadLayouts> {
        let root =
            yaml::read(text)?.ok_or_else(|| bad(1, "an empty file; begin with version: v1"))?;
        let [version, configs] = fields(&root, "the file", ["version", "mig-configs"])?;
        let version = &version.ok_or_else(|| root.bad("no version; write version: v1"))?.value;
        if !matches!(&version.value, Value::Text { text, .. } if text == "v1") {
            return Err(version.bad(format!("version {}; write version: v1", version.kind())));
        }
        let configs = configs.ok_or_else(|| root.bad("no mig-configs; write at least one"))?;
        let (line, node) = (configs.line, &configs.value);
        let Value::Map(map) = &node.value else {
            let kind = node.kind();
            return Err(node.bad(format!("mig-configs is {kind}; write a name for each list")));
        };
        if map.is_empty() {
            return Err(node.bad("no configuration in mig-configs; write at least one"));
        }
        let configs = map.iter().map(|field| Ok((field.key.clone(), entries(field)?)));
        Ok(Layouts { line, configs: configs.collect::<Result<_, BadLayouts>>()? })
    }

    /// The names of the configurations, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.configs.iter().map(|(name, _)| name.as_str())
    }
}

/// The fields of these keys, and no others.
fn fields<'a, const N: usize>(
    node: &'a Node,
    what: &str,
    keys: [&str; N],
) -> Result<[Option<&'a Field>; N], BadLayouts> {
    let Value::Map(map) = &node.value else {
        let kind = node.kind();
        return Err(node.bad(format!("{what} is {kind}; write {}", keys.join(", "))));
    };
    let mut found = [None; N];
    for field in map {
        let Some(at) = keys.iter().position(|known| *known == field.key) else {
            let (key, known) = (shown(&field.key), keys.join(", "));
            return Err(bad(field.line, format!("unknown field {key}; {what} has {known}")));
        };
        found[at] = Some(field);
    }
    Ok(found)
}

fn entries(field: &Field) -> Result<Vec<Entry>, BadLayouts> {
    match &field.value.value {
        Value::List(list) if !list.is_empty() => list.iter().map(entry).collect(),
        _ => {
            let name = shown(&field.key);
            Err(bad(
                field.line,
                format!("{name} is no list of entries; begin each with - devices:"),
            ))
        }
    }
}

fn entry(node: &Node) -> Result<Entry, BadLayouts> {
    let keys = ["device-filter", "devices", "mig-enabled", "mig-devices"];
    let [filter, gpus, enabled, instances] =
        fields(node, "an entry", keys)?.map(|field| field.map(|field| &field.value));
    let need = |field: &str| node.bad(format!("no {field}; an entry needs it"));
    let enabled = truth(enabled.ok_or_else(|| need("mig-enabled"))?)?;
    let empty = |node: &&Node| match &node.value {
        Value::Map(map) => map.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Text { .. } => is_null(node),
    };
    let layout = match (enabled, instances.filter(|node| !is_null(node))) {
        (true, Some(node)) => Layout::Divided(devices::wish(node)?),
        (true, None) => {
            return Err(node.bad("no mig-devices; write {} for mig mode on and no instance"));
        }
        (false, None) => Layout::Off,
        (false, Some(node)) if empty(&node) => Layout::Off,
        (false, Some(node)) => {
            return Err(node.bad("mig-devices with mig-enabled false; leave out one of the two"));
        }
    };
    Ok(Entry {
        origin: Origin::Line(node.line),
        filters: filter.map_or(Ok(Vec::new()), filters)?,
        gpus: gpu_words(gpus.ok_or_else(|| need("devices"))?)?,
        layout,
    })
}

fn is_null(node: &Node) -> bool {
    let null = |text: &str| matches!(text, "" | "~" | "null" | "Null" | "NULL");
    matches!(&node.value, Value::Text { text, plain: true } if null(text))
}

/// As YAML 1.1 writes it, which mig-parted reads.
fn truth(node: &Node) -> Result<bool, BadLayouts> {
    let text = match &node.value {
        Value::Text { text, plain: true } => text.to_ascii_lowercase(),
        _ => String::new(),
    };
    match text.as_str() {
        "true" | "yes" | "on" | "y" => Ok(true),
        "false" | "no" | "off" | "n" => Ok(false),
        _ => Err(node.bad(format!("mig-enabled is {}; write true or false", node.kind()))),
    }
}

/// A text, or each text of a list.
fn texts<'a>(node: &'a Node, what: &str) -> Result<Vec<(&'a str, &'a Node)>, BadLayouts> {
    let text = |node: &'a Node| match &node.value {
        Value::Text { text, .. } => Ok((text.as_str(), node)),
        _ => Err(node.bad(format!("{} in {what}", node.kind()))),
    };
    match &node.value {
        Value::List(list) => list.iter().map(text).collect(),
        _ => Ok(vec![text(node)?]),
    }
}

fn filters(node: &Node) -> Result<Vec<DeviceFilter>, BadLayouts> {
    let texts = texts(node, "device-filter")?;
    // mig-parted takes the empty text for none.
    let some = texts.into_iter().filter(|(text, _)| !text.is_empty());
    some.map(|(text, node)| text.parse().map_err(|message: String| node.bad(message))).collect()
}

fn gpu_words(node: &Node) -> Result<Vec<(GpuWord, Origin)>, BadLayouts> {
    let list = matches!(node.value, Value::List(_));
    let word = |(text, node): (&str, &Node)| {
        let word: GpuWord = text.parse().map_err(|message: String| node.bad(message))?;
        match (&word, list) {
            (GpuWord::All, true) => Err(node.bad("all in a list; write devices: all")),
            (GpuWord::Index(_), false) => Err(node.bad(format!("write devices: [{text}]"))),
            _ => Ok((word, Origin::Line(node.line))),
        }
    };
    texts(node, "devices")?.into_iter().map(word).collect()
}

impl Layouts {
    pub(super) fn config(&self, name: &str) -> Result<&[Entry], BadLayouts> {
        let found = self.configs.iter().find(|(there, _)| there == name);
        found.map(|(_, entries)| entries.as_slice()).ok_or_else(|| {
            let nearest = self.names().min_by_key(|there| distance(there, name));
            let (name, nearest) = (shown(name), shown(nearest.unwrap_or_default()));
            let names: Vec<_> = self.names().map(shown).collect();
            let names = names.join(", ");
            bad(
                self.line,
                format!("no configuration {name}; did you mean {nearest}? there is {names}"),
            )
        })
    }
}

/// How many characters differ, one text slid over the other.
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
