//! The fault points and the stores of the sources, read by their syntax.
//!
//! Walks every function in the order of its text. A `fault_point!` arms, a store disarms; a store
//! that finds nothing armed has no point of its own. A loop begins unarmed, because a point before
//! it is passed only once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Expr, ExprCall, ExprForLoop, ExprMethodCall, ExprWhile, ImplItemFn, ItemFn, ItemMod};

/// Functions of shm-layout that only pass a word on to the memory; their callers have the points.
const FORWARDERS: [(&str, &str); 4] = [
    ("write.rs", "store"),
    ("write.rs", "store_slot"),
    ("mailbox/mod.rs", "store"),
    ("mailbox/ring.rs", "store_at"),
];
/// Calls that store a word, or several.
const STORES: [&str; 7] =
    ["store", "store_slot", "store_at", "copy_in", "swap", "compare_exchange", "add"];
/// What they are called on, if the memory is shared.
const MEMORIES: [&str; 4] = ["memory", "self", "writer", "mailbox"];

/// A fault point of the sources.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub name: String,
    /// A client passes it, not the daemon.
    pub is_clients: bool,
}

/// The result of reading the sources.
#[derive(Debug, Default)]
pub struct Sources {
    pub points: Vec<Point>,
    /// Stores without a point, and what else breaks the rules.
    pub faults: Vec<String>,
    /// Stores that have one.
    pub stores: usize,
}

/// Reads `shm-layout` and the daemon's own sources.
pub fn sources() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = Sources::default();
    let layout: Vec<(String, String)> = files(&root.join("shm-layout/src"));
    let mut mutators = BTreeSet::new();
    // Until no further function is found to store by way of another.
    loop {
        let before = mutators.len();
        for (name, text) in layout.iter().filter(|(name, _)| name.starts_with("write")) {
            let mut walk = Walk::new(name, Calls::Words, &mutators);
            walk.visit_file(&syn::parse_file(text).unwrap());
            mutators.extend(walk.storing);
        }
        if mutators.len() == before {
            break;
        }
    }
    for (name, text) in &layout {
        sources.add(name, text, Calls::Words, &mutators);
    }
    for (name, text) in files(&root.join("src")) {
        sources.add(&name, &text, Calls::Writer, &mutators);
    }
    sources
}

impl Sources {
    /// Adds the points and faults of one file.
    pub fn add(&mut self, file: &str, text: &str, calls: Calls, mutators: &BTreeSet<String>) {
        let mut walk = Walk::new(file, calls, mutators);
        walk.visit_file(&syn::parse_file(text).unwrap());
        self.stores += walk.stores;
        self.faults.append(&mut walk.faults);
        for point in walk.points {
            if self.points.iter().any(|other| other.name == point.name) {
                self.faults.push(format!("{file}: a second point {}", point.name));
            }
            self.points.push(point);
        }
        if calls == Calls::Words && !file.starts_with("memory") && text.contains("AtomicU64") {
            self.faults.push(format!("{file}: an atomic word of its own; memory.rs has them all"));
        }
    }
}

/// The Rust files below a directory, with their paths from there.
fn files(root: &Path) -> Vec<(String, String)> {
    let (mut found, mut left) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = left.pop() {
        let entries = fs::read_dir(directory).unwrap();
        for path in entries.map(|entry| entry.unwrap().path()) {
            let is_test = path.file_stem().is_some_and(|name| name == "tests" || name == "fuzzing");
            if path.is_dir() && !is_test {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
                found.push(path);
            }
        }
    }
    found.sort();
    let name = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// Which calls must have a point beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Stores of words.
    Words,
    /// Calls of the writer that store.
    Writer,
}

struct Walk<'a> {
    file: &'a str,
    calls: Calls,
    mutators: &'a BTreeSet<String>,
    is_armed: bool,
    function: String,
    is_clients: bool,
    stores: usize,
    /// Functions in which something is stored.
    storing: BTreeSet<String>,
    points: Vec<Point>,
    faults: Vec<String>,
}

impl<'a> Walk<'a> {
    fn new(file: &'a str, calls: Calls, mutators: &'a BTreeSet<String>) -> Walk<'a> {
        Walk {
            file,
            calls,
            mutators,
            is_armed: false,
            function: String::new(),
            is_clients: false,
            stores: 0,
            storing: BTreeSet::new(),
            points: Vec::new(),
            faults: Vec::new(),
        }
    }

    fn store(&mut self, what: &str, line: usize) {
        let is_forwarder = FORWARDERS.contains(&(self.file, &self.function));
        if is_forwarder && self.calls == Calls::Words {
            return;
        }
        self.stores += 1;
        self.storing.insert(self.function.clone());
        if !std::mem::take(&mut self.is_armed) {
            let function = &self.function;
            self.faults.push(format!(
                "{}:{line}: `{what}` in `{function}` has no fault_point! of its own before it",
                self.file
            ));
        }
    }

    fn in_function(&mut self, name: String, is_clients: bool, body: impl FnOnce(&mut Self)) {
        let outer = (
            std::mem::replace(&mut self.function, name),
            std::mem::replace(&mut self.is_clients, is_clients),
        );
        self.is_armed = false;
        body(self);
        (self.function, self.is_clients) = outer;
    }
}

/// The last name of what a method is called on: `self.mailbox.memory` is `memory`.
fn last_name(receiver: &Expr) -> Option<String> {
    match receiver {
        Expr::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        Expr::Field(field) => match &field.member {
            syn::Member::Named(name) => Some(name.to_string()),
            syn::Member::Unnamed(_) => None,
        },
        Expr::MethodCall(call) => Some(call.method.to_string()),
        Expr::Reference(reference) => last_name(&reference.expr),
        _ => None,
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|name| name == "test")
    })
}

/// The documents of shm-layout say of each function of the mailbox whose it is.
fn is_of_client(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::NameValue(pair) = &attribute.meta else { return false };
        let Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value else {
            return false;
        };
        pair.path.is_ident("doc") && text.value().trim_start().starts_with("Client:")
    })
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        let (name, is_clients) = (function.sig.ident.to_string(), is_of_client(&function.attrs));
        self.in_function(name, is_clients, |walk| visit::visit_item_fn(walk, function));
    }

    fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
        let is_producer = matches!(&*block.self_ty, syn::Type::Path(path)
            if path.path.segments.last().is_some_and(|name| name.ident == "Producer"));
        let outer = std::mem::replace(&mut self.is_clients, is_producer);
        visit::visit_item_impl(self, block);
        self.is_clients = outer;
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        let is_clients = self.is_clients || is_of_client(&function.attrs);
        let name = function.sig.ident.to_string();
        self.in_function(name, is_clients, |walk| visit::visit_impl_item_fn(walk, function));
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        let name = function.sig.ident.to_string();
        self.in_function(name, false, |walk| visit::visit_trait_item_fn(walk, function));
    }

    fn visit_expr_for_loop(&mut self, each: &'ast ExprForLoop) {
        self.is_armed = false;
        visit::visit_expr_for_loop(self, each);
    }

    fn visit_expr_while(&mut self, each: &'ast ExprWhile) {
        self.is_armed = false;
        visit::visit_expr_while(self, each);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if call.path.segments.last().is_some_and(|name| name.ident == "fault_point") {
            let Ok(name) = call.parse_body::<syn::LitStr>() else { return };
            self.is_armed = true;
            self.points.push(Point { name: name.value(), is_clients: self.is_clients });
        } else if call.tokens.to_string().contains("memory . store") {
            self.faults.push(format!("{}: a store in the arguments of a macro", self.file));
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        visit::visit_expr_method_call(self, call);
        let (method, line) = (call.method.to_string(), call.method.span().start().line);
        let receiver = last_name(&call.receiver).unwrap_or_default();
        let takes_memory = || {
            let mut names = call.args.iter().filter_map(last_name);
            names.any(|name| name == "memory")
        };
        let is_store = match self.calls {
            Calls::Words => {
                let is_memory = MEMORIES.contains(&receiver.as_str())
                    && (method != "add" && method != "swap" || receiver == "memory")
                    && (receiver != "self" || self.file != "memory.rs" || method == "store");
                STORES.contains(&method.as_str()) && (is_memory || takes_memory())
                    || receiver == "self" && self.mutators.contains(&method)
            }
            Calls::Writer => receiver == "writer" && self.mutators.contains(&method),
        };
        if is_store {
            self.store(&format!("{receiver}.{method}"), line);
        }
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        visit::visit_expr_call(self, call);
        let Expr::Path(path) = &*call.func else { return };
        let names: Vec<String> =
            path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let [.., module, function] = names.as_slice()
            && module == "write"
            && self.mutators.contains(function)
        {
            self.store(&names.join("::"), path.span().start().line);
        }
    }
}

/// The hazard: a rule that finds nothing wrong whatever it reads.
#[test]
fn a_store_without_a_point_is_found() {
    let faults = |text: &str| {
        let mut sources = Sources::default();
        sources.add("file.rs", text, Calls::Words, &BTreeSet::new());
        sources.faults
    };
    let with = "fn f(&self) { fault_point!(\"a\"); self.memory.store(1, 2); }";
    assert_eq!(faults(with), [""; 0]);
    for text in [
        "fn f() { self.memory.store(1, 2); }",
        "fn f() { fault_point!(\"a\"); self.store(1, 2); self.store(2, 3); }",
        "fn f() { fault_point!(\"a\"); for n in m { writer.store(n, 2); } }",
        "fn f() { let old = unsafe { self.mailbox.memory.swap(1, 2) }; }",
        "fn f() { unsafe { memory.copy_in(1, b) }; }",
        "fn f() { entry.store(&self.memory, 1); }",
        "fn f() { fault_point!(\"a\"); } fn g() { self.store(1, 2); }",
        "use core::sync::atomic::AtomicU64;",
    ] {
        assert_eq!(faults(text).len(), 1, "{text}: {:?}", faults(text));
    }
    let twice = "fn f() { fault_point!(\"a\"); fault_point!(\"a\"); }";
    assert_eq!(faults(twice).len(), 1);
}

#[test]
fn every_store_to_shared_memory_has_a_fault_point() {
    let sources = sources();
    assert!(sources.faults.is_empty(), "{}", sources.faults.join("\n"));
    println!("{} stores, {} points", sources.stores, sources.points.len());
    assert!(sources.stores > 80 && sources.points.len() >= sources.stores);
}
