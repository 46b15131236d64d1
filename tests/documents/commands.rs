//! The commands in a block of a shell, and whether the command line that they name knows them.

/// The commands of a block: of `console` the lines after a prompt, of `sh` all lines.
pub fn commands(language: &str, text: &str) -> Vec<Vec<String>> {
    let text = text.replace("\\\n", " ");
    let typed = text.lines().filter_map(|line| match language {
        "console" => line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")),
        "sh" => Some(line),
        _ => None,
    });
    typed.flat_map(split).filter(|words| !words.is_empty()).collect()
}

/// Splits a line into commands and these into words, as a shell does, without expansions.
fn split(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ') => words.extend(word.take()),
            (None, '|' | '&' | ';' | '(' | ')') => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    commands.push(words);
    commands
}

/// What is wrong with a command of `l1d`, `l1ctl` or `./dev`; `None`: nothing, or it is another
/// program's.
pub fn fault(words: &[String]) -> Option<String> {
    let is_redirected = |word: &&String| word.starts_with(['>', '<']) || word.starts_with("2>");
    let end = words.iter().position(|word| is_redirected(&word)).unwrap_or(words.len());
    let words = &words[..end];
    let is_before =
        |word: &&String| word.contains('=') || ["sudo", "exec"].contains(&word.as_str());
    let start = words.iter().position(|word| !is_before(&word))?;
    let words = &words[start..];
    let name = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let is_ours = |word: &String| ["l1d", "l1ctl"].contains(&name(word).as_str());
    match words[0].as_str() {
        "./dev" => {
            let recipe = words.get(1).map_or("help", String::as_str);
            let known = include_str!("../../dev").contains(&format!("\nrecipe_{recipe}() {{"));
            (!known).then(|| format!("./dev has no recipe {recipe}"))
        }
        "cargo" if words.get(1).is_some_and(|word| word == "run") => {
            let start = words.iter().position(|word| word == "--")?;
            parsed("l1d", &words[start + 1..])
        }
        // After the options of the container and the name of its image.
        "docker" | "podman" | "kubectl" => {
            let start = words.iter().rposition(|word| ["l1d", "l1ctl"].contains(&word.as_str()))?;
            parsed(&words[start], &words[start + 1..])
        }
        _ if is_ours(&words[0]) => parsed(&name(&words[0]), &words[1..]),
        _ => None,
    }
}

fn parsed(program: &str, arguments: &[String]) -> Option<String> {
    let command = if program == "l1d" { l1d::cli::command() } else { l1d::ctl::command() };
    let line = std::iter::once(program).chain(arguments.iter().map(String::as_str));
    let error = command.try_get_matches_from(line).err()?;
    use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
    (!matches!(error.kind(), DisplayHelp | DisplayVersion)).then(|| error.to_string())
}
