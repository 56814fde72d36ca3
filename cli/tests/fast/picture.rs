//! `mig-cdi map` and `mig-cdi list --tree`: the output byte for byte and, for random layouts, compared with the node
//! description.
//!
//! `cargo xtask golden picture` writes the current output into the files; read the diff.

use mig_cdi_model::Placement;
use mig_cdi_sim::{Model, PRESETS, preset};
use mig_cdi_tests::{
    FakeHost, Run,
    all_layouts::accepted,
    drawing::{DrawnGpu, GUTTER, check_svg, columns, read},
    mig_cdi, project, run,
};
use nix::{sys::stat::Mode, unistd::mkfifo};
use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

const UTF8: &str = "C.UTF-8";
const ASCII: &str = "C";

fn shown(args: &[&str], locale: &str) -> Run {
    run(mig_cdi(args).env("LC_ALL", "").env("LANG", locale))
}

/// Returns the output of a complete run.
fn draw(args: &[&str], locale: &str) -> String {
    let run = shown(args, locale);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{args:?}");
    run.stdout
}

fn is_updated() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// Compares a file of the tree with the output.
fn same(path: &Path, found: &str) {
    if is_updated() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, found).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    similar_asserts::assert_eq!(found, expected, "{}", path.display());
}

#[test]
fn every_picture_has_its_expected_output() {
    let dir = project().join("tests/golden/pictures");
    let mut names: BTreeSet<String> = PRESETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    names
        .extend(fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()));
    assert!(names.len() >= 11, "{names:?}");
    for name in names {
        let described = dir.join(&name).join("node.toml");
        let node = if described.exists() { described.to_str().unwrap() } else { &name };
        for (locale, suffix) in [(UTF8, ""), (ASCII, "-ascii")] {
            let map = draw(&["map", "--node", node], locale);
            let tree = draw(&["list", "--tree", "--node", node], locale);
            assert!(map.lines().all(|line| line.chars().count() <= 80), "{map}");
            assert!(locale != ASCII || map.is_ascii() && tree.is_ascii(), "{map}{tree}");
            same(&dir.join(&name).join(format!("map{suffix}.txt")), &map);
            same(&dir.join(&name).join(format!("tree{suffix}.txt")), &tree);
        }
    }
}

#[test]
fn the_first_locale_variable_decides_the_character_set() {
    let with = |set: &[(&str, &str)]| {
        let mut command = mig_cdi(["map", "--node", "a30"]);
        run(command.envs(set.iter().copied())).stdout.is_ascii()
    };
    assert!(with(&[]));
    assert!(!with(&[("LANG", "de_DE.UTF-8")]));
    assert!(with(&[("LC_ALL", "POSIX"), ("LC_CTYPE", "C.UTF-8"), ("LANG", "C.UTF-8")]));
    assert!(!with(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")]));
}

#[test]
fn the_documents_show_what_the_program_draws() {
    let example = draw(&["map", "6", "--node", "hgx-h100"], UTF8);
    let path = project().join("docs/map.md");
    let text = fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once("```\n").unwrap();
    let (block, tail) = rest.split_once("```\n").unwrap();
    if is_updated() {
        fs::write(&path, format!("{head}```\n{example}```\n{tail}")).unwrap();
    } else {
        similar_asserts::assert_eq!(block, example, "docs/map.md");
    }
    let node = project().join("tests/golden/pictures/in-use/node.toml");
    let svg = draw(&["map", "--svg=-", "--node", node.to_str().unwrap()], UTF8);
    same(&project().join("docs/picture.svg"), &svg);
}

/// GPU instance of a node description.
struct Part {
    profile: &'static str,
    at: Placement,
    slices: u32,
    compute: Vec<Placement>,
}

impl Part {
    fn text(&self) -> String {
        let Part { profile, at, compute, .. } = self;
        let words: Vec<_> =
            compute.iter().map(|ci| format!("\"{}c@{}\"", ci.size, ci.start)).collect();
        let start = at.start;
        format!("{{ profile = \"{profile}\", start = {start}, compute = [{}] }}", words.join(","))
    }
}

/// Small pseudo-random generator.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 32) as u32) % limit
    }

    /// Returns random compute instances that fit in a GPU instance, by start.
    fn compute(&mut self, slices: u32) -> Vec<Placement> {
        let mut found = Vec::new();
        let mut next = 0;
        while next < slices {
            let size = 1 + self.below(slices - next);
            if self.below(4) > 0 {
                found.push(Placement { start: next, size });
            }
            next += size;
        }
        found
    }

    /// Returns random instances that fit side by side, by start.
    fn layout(&mut self, model: &'static Model) -> Vec<Part> {
        let rows = model.profiles.iter();
        let mut placements: Vec<_> =
            rows.flat_map(|row| row.starts.iter().map(move |at| (row, *at))).collect();
        let most = self.below(8);
        let mut parts: Vec<Part> = Vec::new();
        while !placements.is_empty() && parts.len() < most as usize {
            let (row, start) = placements.swap_remove(self.below(placements.len() as u32) as usize);
            let at = Placement { start, size: row.size };
            let whole = vec![Placement { start: 0, size: row.slices }];
            let compute = if self.below(2) == 0 { whole } else { self.compute(row.slices) };
            parts.push(Part { profile: row.name, at, slices: row.slices, compute });
            if !accepted(model, &parts.iter().map(Part::text).collect::<Vec<_>>()) {
                parts.pop();
            }
        }
        parts.sort_by_key(|part| part.at.start);
        parts
    }
}

/// Returns the text between two columns, its lines joined.
fn inside(lines: &[&str], from: usize, to: usize) -> String {
    let cut = lines.iter().map(|line| line[GUTTER + from + 1..GUTTER + to].trim());
    cut.collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// Compares the drawing of a GPU with the instances that it was made of.
fn check(index: usize, block: &str, model: &'static Model, parts: &[Part]) {
    let drawn = read(block);
    let ends = model.profiles.iter().flat_map(|row| row.starts.iter().map(|at| at + row.size));
    let width = ends.max().unwrap();
    let unit = drawn.edges.last().unwrap() / width as usize;
    assert_eq!(unit * width as usize, *drawn.edges.last().unwrap(), "{block}");
    // Every memory slice is in one box: the edges are those of the instances and of each free slice.
    let mut edges = BTreeSet::from([width]);
    let mut next = 0;
    for part in parts {
        edges.extend(next..=part.at.start);
        next = part.at.start + part.at.size;
    }
    edges.extend(next..width);
    let edges: Vec<_> = edges.into_iter().map(|slice| slice as usize * unit).collect();
    assert_eq!(drawn.edges, edges, "{block}");
    let mut free: BTreeSet<u32> = (0..width).collect();
    for part in parts {
        let Placement { start, size } = part.at;
        let (from, to) = (start as usize * unit, (start + size) as usize * unit);
        let text = inside(&drawn.memory, from, to);
        let key = text.split_whitespace().next().unwrap();
        let tight = text[key.len()..].replace(' ', "");
        assert_eq!(tight, part.profile, "{block}");
        check_compute(index, block, &drawn, part, key, (from, to));
        free.retain(|slice| !(start..start + size).contains(slice));
    }
    for slice in free {
        let (from, to) = (slice as usize * unit, (slice + 1) as usize * unit);
        assert_eq!(inside(&drawn.memory, from, to), "free", "{block}");
        assert_eq!(inside(&drawn.compute, from, to), "", "{block}");
    }
    // The profiles that still fit are those that the hardware accepts, each alone.
    let texts: Vec<_> = parts.iter().map(Part::text).collect();
    let mut listed = BTreeSet::new();
    for fit in drawn.fits["still fits: ".len()..].split("; ").filter(|fit| fit.contains(" at ")) {
        let (profile, starts) = fit.split_once(" at ").unwrap();
        listed.extend(starts.split(',').map(|at| (profile.to_owned(), at.parse::<u32>().unwrap())));
    }
    let rows = model.profiles.iter();
    let placements =
        rows.flat_map(|row| row.starts.iter().map(move |at| (row.name.to_owned(), *at)));
    let fits = |(profile, start): &(String, u32)| {
        let more = format!("{{ profile = \"{profile}\", start = {start} }}");
        accepted(model, &[&texts[..], &[more]].concat())
    };
    assert_eq!(listed, placements.filter(fits).collect(), "{block}");
}

/// Asserts that every compute slice of a GPU instance is drawn once, and its devices at their place.
fn check_compute(
    index: usize,
    block: &str,
    drawn: &DrawnGpu<'_>,
    part: &Part,
    key: &str,
    (from, to): (usize, usize),
) {
    let edges: Vec<_> =
        columns(drawn.compute[0], '|').into_iter().filter(|at| (from..=to).contains(at)).collect();
    let cells: Vec<_> =
        edges.windows(2).map(|pair| inside(&drawn.compute, pair[0], pair[1])).collect();
    let (mut expected, mut next, mut number) = (Vec::new(), 0, 0);
    let profile = part.profile.replace('+', ".");
    let start = part.at.start;
    for ci in &part.compute {
        expected.extend((next..ci.start).map(|_| ".".to_owned()));
        number += 1;
        let pips = "#".repeat(ci.size as usize);
        let (own, name) = match ci.size == part.slices {
            true => (key.to_owned(), format!("{index}:{profile}:{start}")),
            false => {
                let (size, at) = (ci.size, ci.start);
                (format!("{key}{number}"), format!("{index}:{size}c.{profile}:{start}:{at}"))
            }
        };
        assert_eq!(drawn.devices.get(own.as_str()), Some(&name.as_str()), "{own} in {block}");
        expected.push(format!("{own} {pips}"));
        next = ci.start + ci.size;
    }
    expected.extend((next..part.slices).map(|_| ".".to_owned()));
    assert_eq!(cells, expected, "{block}");
}

#[test]
fn any_layout_is_drawn_correctly() {
    let mut random = Random(11);
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("node.toml");
    for key in ["a100-80gb", "h100-80gb", "b200", "a30", "rtx-pro-6000"] {
        let model = Model::find(key).unwrap();
        for _ in 0..4 {
            let gpus: Vec<_> = (0..16).map(|_| random.layout(model)).collect();
            let gpu = |(card, parts): (usize, &Vec<Part>)| {
                let texts: Vec<_> = parts.iter().map(Part::text).collect();
                let dri = format!("dri = {{ card = {card}, render = {} }}", 128 + card);
                let texts = texts.join(",");
                format!("[[gpu]]\nmodel = \"{key}\"\n{dri}\ninstances = [{texts}]\n")
            };
            fs::write(&node, gpus.iter().enumerate().map(gpu).collect::<String>()).unwrap();
            let node = node.to_str().unwrap();
            let map = draw(&["map", "--node", node], ASCII);
            assert!(map.is_ascii() && map.lines().all(|line| line.len() <= 80), "{map}");
            let blocks: Vec<_> = map.split("\n\n").filter(|b| b.starts_with("GPU ")).collect();
            assert_eq!(blocks.len(), gpus.len());
            for (index, (block, parts)) in blocks.iter().zip(&gpus).enumerate() {
                check(index, block, model, parts);
            }
            check_svg(&draw(&["map", "--svg=-", "--node", node], ASCII), &map);
        }
    }
}

/// No program relies on a picture, so it may be written anywhere, also in a directory that a group can write. A
/// device or a link at that path is refused.
#[test]
fn a_picture_is_written_to_a_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    symlink(dir.path(), path("linked")).unwrap();
    let map = |file: &str| shown(&["map", "--node=a30", &format!("--svg={file}")], UTF8);
    for _ in 0..2 {
        let run = map(&path("linked/a30.svg"));
        assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{}", run.stderr);
        let expected = draw(&["map", "--node=a30", "--svg=-"], UTF8);
        assert!(fs::read_to_string(path("a30.svg")).unwrap() == expected);
        fs::write(path("a30.svg"), "older").unwrap();
    }
    fs::remove_file(path("linked")).unwrap();
    symlink("a30.svg", path("stdout")).unwrap();
    mkfifo(path("pipe").as_str(), Mode::S_IRWXU).unwrap();
    for name in ["stdout", "pipe"] {
        let run = map(&path(name));
        let expected =
            format!("error: write {}: it is no regular file; name another file\n", path(name));
        assert_eq!((run.code, run.stderr), (1, expected));
    }
    assert_eq!(fs::read_link(path("stdout")).unwrap(), Path::new("a30.svg"));
    assert_eq!(fs::read_to_string(path("a30.svg")).unwrap(), "older");
    let kept = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(kept, 3, "nothing is left over");
    // Root reads a checkpoint again later, so it must be in a directory of root's.
    let run = shown(&["checkpoint", "--node=a30", &path("layout.yaml")], UTF8);
    assert_eq!(run.code, 5, "{}", run.stderr);
    assert!(
        run.stderr.ends_with(
            ": users other than root can write there; use a directory that only root can write to\n"
        ),
        "{}",
        run.stderr
    );
}

#[test]
fn gpus_are_selected_as_in_other_commands() {
    let gpu_indices = |words: &[&str]| {
        let map = draw(&[&["map", "--node=hgx-h100"], words].concat(), ASCII);
        let indices = map.lines().filter_map(|line| line.strip_prefix("GPU ")?.split(':').next());
        indices.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(gpu_indices(&["7", "2"]), ["2", "7"]);
    assert_eq!(gpu_indices(&["0000:19:00.0", "0"]), ["0"]);
    assert_eq!(gpu_indices(&["GPU-348674ea-c9c3-51f7-9cd0-453824902d91"]), ["0"]);
    assert_eq!(gpu_indices(&["all"]).len(), 8);
    let absent = shown(&["map", "--node=a30", "2"], ASCII);
    let expected = "error: draw gpu 2: no such gpu on this node; it has gpu 0, gpu 1\n";
    assert_eq!((absent.code, absent.stderr.as_str()), (2, expected));
    assert_eq!(shown(&["map", "--node=a30", "first"], ASCII).code, 2);
}

/// Without placements nothing is drawn, and the known devices are listed.
#[test]
fn a_gpu_without_placements_is_listed() {
    let host = FakeHost::new(preset("a30").unwrap());
    let listed = host.run(&["map", "--source=proc"]);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let whole = "GPU minor 1: NVIDIA A30 at 0000:65:00.0\n";
    assert!(listed.stdout.contains(whole), "{}", listed.stdout);
    assert!(
        listed.stdout.contains("without NVML the placements of its instances")
            && listed.stdout.ends_with("  1:4:0\n")
    );
}
