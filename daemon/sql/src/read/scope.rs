//! What names mean at a place in a query: the queries that `WITH` names, and what stands in `FROM`.

use chaperone_model::QualifiedName;

/// What columns can be of.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The name by which columns refer to it.
    pub(super) name: String,
    /// The relation, where it is one.
    pub(super) relation: Option<QualifiedName>,
}

/// What is visible at a place.
#[derive(Debug, Default)]
pub(super) struct Scope {
    queries: Vec<String>,
    levels: Vec<Vec<Item>>,
}

impl Scope {
    /// How many named queries are visible: what [`forget`](Self::forget) goes back to.
    pub(super) fn queries(&self) -> usize {
        self.queries.len()
    }

    pub(super) fn name_query(&mut self, name: String) {
        self.queries.push(name);
    }

    pub(super) fn forget(&mut self, to: usize) {
        self.queries.truncate(to);
    }

    /// Whether a name without a schema is that of a query, which hides a relation's.
    pub(super) fn is_query(&self, name: &QualifiedName) -> bool {
        name.schema.is_none() && self.queries.contains(&name.name)
    }

    /// A query begins: what is added from here on is its own.
    pub(super) fn open(&mut self) {
        self.levels.push(Vec::new());
    }

    pub(super) fn close(&mut self) {
        self.levels.pop();
    }

    pub(super) fn add(&mut self, item: Item) {
        if let Some(level) = self.levels.last_mut() {
            level.push(item);
        }
    }

    /// Takes away what the current query has in `FROM` so far: a subquery there does not see it.
    pub(super) fn hide(&mut self) -> Vec<Item> {
        self.levels.last_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Undoes [`hide`](Self::hide).
    pub(super) fn show(&mut self, items: Vec<Item>) {
        if let Some(level) = self.levels.last_mut() {
            *level = items;
        }
    }

    /// The relations of the current query.
    pub(super) fn own(&self) -> impl Iterator<Item = &QualifiedName> {
        self.levels.last().into_iter().flatten().filter_map(|item| item.relation.as_ref())
    }

    /// What goes by a name, the innermost first.
    pub(super) fn find(&self, name: &str) -> Option<&Item> {
        self.items().find(|item| item.name == name)
    }

    /// The relation of that name in that schema, where it goes by its own name.
    pub(super) fn has(&self, relation: &QualifiedName) -> bool {
        self.items().any(|item| item.relation.as_ref() == Some(relation))
    }

    /// The relation that all is of that stands here and around the current query: a column with
    /// nothing before it is of that one.
    pub(super) fn only(&self) -> Option<&QualifiedName> {
        let mut items = self.items();
        let first = items.next()?.relation.as_ref()?;
        items.all(|item| item.relation.as_ref() == Some(first)).then_some(first)
    }

    fn items(&self) -> impl Iterator<Item = &Item> {
        self.levels.iter().rev().flatten()
    }
}
