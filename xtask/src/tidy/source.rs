//! One parsed source file: its modules, their imports and the tokens of their code, without test code.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, ImplItem, Item, Stmt, UseTree};

/// A source file.
pub(crate) struct Source {
    /// The module that the file is.
    pub(crate) scope: Scope,
    /// Every function, including those for tests.
    pub(crate) functions: Vec<Function>,
    /// How many lines the file has.
    pub(crate) lines: usize,
}

/// A module: a file's own, or one that is written inside it.
#[derive(Default)]
pub(crate) struct Scope {
    /// `mod name;`: modules in files of their own.
    pub(crate) files: Vec<Declared>,
    /// The same under `#[cfg(test)]`.
    pub(crate) test_files: Vec<String>,
    /// `mod name { … }`, by name.
    pub(crate) inline: Vec<(String, Self)>,
    /// Names of the items that it defines itself.
    pub(crate) items: BTreeSet<String>,
    /// Names of the `macro_rules!` that it defines.
    pub(crate) macros: BTreeSet<String>,
    /// What its `use` lines import, including those inside functions.
    pub(crate) imports: Vec<Import>,
    /// All other tokens in their order, without comments.
    pub(crate) tokens: Vec<Token>,
}

/// A module that is declared, and defined in another file.
pub(crate) struct Declared {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is `pub`, to other crates as well.
    pub(crate) is_public: bool,
    /// Where it is declared.
    pub(crate) line: usize,
}

/// One name of a `use` line.
pub(crate) struct Import {
    /// The whole path.
    pub(crate) path: Vec<String>,
    /// Its name here; none for `_` and `*`.
    pub(crate) name: Option<String>,
    /// Whether it ends in `::*`.
    pub(crate) is_glob: bool,
    /// Where it stands.
    pub(crate) line: usize,
}

/// A path that code names without importing it.
pub(crate) struct NamedPath {
    /// Its words.
    pub(crate) path: Vec<String>,
    /// Where it stands.
    pub(crate) line: usize,
}

/// A function.
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// Where it begins.
    pub(crate) line: usize,
    /// Its length, signature and braces included.
    pub(crate) lines: usize,
}

/// A token and where it stands.
pub(crate) struct Token {
    /// What it is.
    pub(crate) kind: Kind,
    /// Its line.
    pub(crate) line: usize,
}

/// What a token is.
#[derive(PartialEq, Eq)]
pub(crate) enum Kind {
    /// An identifier or a keyword.
    Word(String),
    /// A string literal, as it is written.
    Text(String),
    /// Punctuation or a bracket.
    Sign(char),
}

impl Source {
    /// Reads a file's text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut file = syn::parse_file(text).context("this is no Rust file")?;
        let mut functions = Functions(Vec::new());
        functions.visit_file_mut(&mut file);
        Ok(Self { scope: Scope::of(file.items)?, functions: functions.0, lines: text.lines().count() })
    }
}

impl Scope {
    fn of(items: Vec<Item>) -> Result<Self> {
        let mut scope = Self::default();
        for item in items {
            scope.add(item)?;
        }
        Ok(scope)
    }

    fn add(&mut self, item: Item) -> Result<()> {
        let is_test = is_for_tests(attributes(&item));
        match item {
            Item::Mod(module) => {
                let name = module.ident.to_string();
                if module.attrs.iter().any(|attribute| attribute.path().is_ident("path")) {
                    bail!("module {name} has a #[path], which tidy does not follow");
                }
                match module.content {
                    None if is_test => self.test_files.push(name),
                    None => self.files.push(Declared {
                        name,
                        is_public: matches!(module.vis, syn::Visibility::Public(_)),
                        line: module.ident.span().start().line,
                    }),
                    Some(_) if is_test => {}
                    Some((_, items)) => self.inline.push((name, Self::of(items)?)),
                }
            }
            _ if is_test => {}
            Item::Use(import) => flatten(&import.tree, &mut Vec::new(), &mut self.imports),
            mut item => {
                if let Item::Macro(definition) = &item
                    && let Some(name) = &definition.ident
                {
                    self.macros.insert(name.to_string());
                }
                self.items.extend(name_of(&item));
                let mut pruned = Pruner { imports: &mut self.imports };
                pruned.visit_item_mut(&mut item);
                tokens(item.to_token_stream(), &mut self.tokens);
            }
        }
        Ok(())
    }

    /// The paths of at least two words in the code.
    pub(crate) fn paths(&self) -> Vec<NamedPath> {
        let tokens = &self.tokens;
        let sign = |at: usize, sign| tokens.get(at).is_some_and(|token| token.kind == Kind::Sign(sign));
        let separator = |at: usize| sign(at, ':') && sign(at + 1, ':');
        let word = |at: usize| match tokens.get(at).map(|token| &token.kind) {
            Some(Kind::Word(word)) => Some(word.clone()),
            _ => None,
        };
        let mut found = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            if let Kind::Text(text) = &tokens[at].kind {
                found.extend(path_in(text).map(|path| NamedPath { path, line: tokens[at].line }));
            }
            let Some(first) = word(at) else {
                at += 1;
                continue;
            };
            // `Vec::<T>::new` continues after its angle bracket; `::core::mem` starts with a separator.
            let goes_on = at >= 3 && separator(at - 2) && (sign(at - 3, '>') || word(at - 3).is_some());
            let line = tokens[at].line;
            let mut path = vec![first];
            at += 1;
            while separator(at)
                && let Some(next) = word(at + 2)
            {
                path.push(next);
                at += 3;
            }
            if path.len() > 1 && !goes_on {
                found.push(NamedPath { path, line });
            }
        }
        found
    }

    /// The macros that the code calls by their bare names.
    pub(crate) fn macro_calls(&self) -> impl Iterator<Item = (&str, usize)> {
        self.tokens.windows(2).filter_map(|pair| match (&pair[0].kind, &pair[1].kind) {
            (Kind::Word(name), Kind::Sign('!')) => Some((name.as_str(), pair[0].line)),
            _ => None,
        })
    }
}

/// A path in a string, as in `#[serde(with = "crate::time")]`.
fn path_in(text: &str) -> Option<Vec<String>> {
    let words: Vec<String> = text.trim_matches('"').split("::").map(str::to_owned).collect();
    let is_word = |word: &String| {
        !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    let begins = matches!(words.first().map(String::as_str), Some("crate" | "self" | "super"));
    (begins && words.len() > 1 && words.iter().all(is_word)).then_some(words)
}

/// The names that a `use` tree brings in.
fn flatten(tree: &UseTree, before: &mut Vec<String>, imports: &mut Vec<Import>) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, imports);
            before.pop();
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, before, imports);
            }
        }
        UseTree::Glob(glob) => imports.push(Import {
            path: before.clone(),
            name: None,
            is_glob: true,
            line: glob.star_token.spans[0].start().line,
        }),
        UseTree::Name(name) => {
            let line = name.ident.span().start().line;
            let mut path = before.clone();
            if name.ident != "self" {
                path.push(name.ident.to_string());
            }
            imports.push(Import { name: path.last().cloned(), path, is_glob: false, line });
        }
        UseTree::Rename(rename) => {
            let line = rename.ident.span().start().line;
            let mut path = before.clone();
            if rename.ident != "self" {
                path.push(rename.ident.to_string());
            }
            let name = (rename.rename != "_").then(|| rename.rename.to_string());
            imports.push(Import { path, name, is_glob: false, line });
        }
    }
}

/// Removes test code and doc comments, and collects the `use` lines.
struct Pruner<'a> {
    imports: &'a mut Vec<Import>,
}

impl VisitMut for Pruner<'_> {
    fn visit_attributes_mut(&mut self, attributes: &mut Vec<Attribute>) {
        attributes.retain(|attribute| !attribute.path().is_ident("doc"));
    }

    fn visit_visibility_mut(&mut self, visibility: &mut syn::Visibility) {
        // `pub(in super::super)` names a module without using it.
        *visibility = syn::Visibility::Inherited;
    }

    fn visit_block_mut(&mut self, block: &mut syn::Block) {
        block.stmts.retain_mut(|statement| match statement {
            Stmt::Item(item) if is_for_tests(attributes(item)) => false,
            Stmt::Item(Item::Use(import)) => {
                flatten(&import.tree, &mut Vec::new(), self.imports);
                false
            }
            _ => true,
        });
        visit_mut::visit_block_mut(self, block);
    }

    fn visit_item_impl_mut(&mut self, item: &mut syn::ItemImpl) {
        item.items.retain(|item| match item {
            ImplItem::Fn(function) => !is_for_tests(&function.attrs),
            ImplItem::Const(constant) => !is_for_tests(&constant.attrs),
            _ => true,
        });
        visit_mut::visit_item_impl_mut(self, item);
    }
}

/// Measures functions.
struct Functions(Vec<Function>);

impl Functions {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let line = signature.fn_token.span.start().line;
        let last = block.brace_token.span.close().end().line;
        self.0.push(Function { name: signature.ident.to_string(), line, lines: last + 1 - line });
    }
}

impl VisitMut for Functions {
    fn visit_item_fn_mut(&mut self, item: &mut syn::ItemFn) {
        self.add(&item.sig, &item.block);
        visit_mut::visit_item_fn_mut(self, item);
    }

    fn visit_impl_item_fn_mut(&mut self, item: &mut syn::ImplItemFn) {
        self.add(&item.sig, &item.block);
        visit_mut::visit_impl_item_fn_mut(self, item);
    }

    fn visit_trait_item_fn_mut(&mut self, item: &mut syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.add(&item.sig, block);
        }
        visit_mut::visit_trait_item_fn_mut(self, item);
    }
}

/// Whether attributes say that this is compiled for tests only.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let words = attribute.meta.to_token_stream().to_string();
        let is_cfg = attribute.path().is_ident("cfg") && !words.contains("not");
        attribute.path().is_ident("test")
            || is_cfg && words.split(|c: char| !c.is_alphabetic()).any(|word| word == "test")
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// Flattens a token stream, with brackets as tokens.
fn tokens(stream: TokenStream, found: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Ident(word) => found.push(Token { kind: Kind::Word(word.to_string()), line }),
            TokenTree::Punct(sign) => found.push(Token { kind: Kind::Sign(sign.as_char()), line }),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let kind = if text.ends_with('"') { Kind::Text(text) } else { Kind::Sign('0') };
                found.push(Token { kind, line });
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ('(', ')'),
                    Delimiter::Brace => ('{', '}'),
                    Delimiter::Bracket => ('[', ']'),
                    Delimiter::None => (' ', ' '),
                };
                let last = group.span_close().end().line;
                found.push(Token { kind: Kind::Sign(open), line });
                tokens(group.stream(), found);
                found.push(Token { kind: Kind::Sign(close), line: last });
            }
        }
    }
}
