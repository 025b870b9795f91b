//! What queries are made of: expressions, and what stands in `FROM`.

use chaperone_model::{Access, QualifiedName, Rung};
use pg_query::{
    Node, NodeEnum,
    protobuf::{
        ColumnRef, FuncCall, JoinExpr, JsonAggConstructor, JsonBehavior, JsonOutput,
        JsonTablePathSpec, JsonValueExpr, RangeVar, TypeName, WindowDef,
    },
};

use super::{Walk, alias, functions, name_of, text};

impl Walk {
    /// One node.
    pub(super) fn node(&mut self, node: &Node) {
        let Some(node) = &node.node else { return self.unknown("a part of it") };
        match node {
            NodeEnum::AConst(_)
            | NodeEnum::ParamRef(_)
            | NodeEnum::SqlvalueFunction(_)
            | NodeEnum::SetToDefault(_)
            | NodeEnum::AStar(_)
            | NodeEnum::String(_)
            | NodeEnum::Integer(_)
            | NodeEnum::MergeSupportFunc(_)
            | NodeEnum::CurrentOfExpr(_) => {}
            NodeEnum::ColumnRef(column) => self.column_ref(column),
            NodeEnum::FuncCall(call) => self.call(call),
            NodeEnum::AExpr(e) => {
                self.operator(&e.name);
                self.maybe(e.lexpr.as_deref());
                self.maybe(e.rexpr.as_deref());
            }
            NodeEnum::BoolExpr(e) => self.all(&e.args),
            NodeEnum::List(list) => self.all(&list.items),
            NodeEnum::AIndices(i) => {
                self.maybe(i.lidx.as_deref());
                self.maybe(i.uidx.as_deref());
            }
            NodeEnum::AIndirection(i) => {
                self.maybe(i.arg.as_deref());
                self.all(&i.indirection);
                // A field of a whole row can be a function of it.
                self.fields(&i.indirection);
            }
            NodeEnum::AArrayExpr(a) => self.all(&a.elements),
            NodeEnum::NamedArgExpr(n) => self.maybe(n.arg.as_deref()),
            NodeEnum::TypeCast(c) => {
                self.type_name(c.type_name.as_ref());
                self.maybe(c.arg.as_deref());
            }
            NodeEnum::TypeName(name) => self.type_name(Some(name)),
            NodeEnum::CollateClause(c) => self.maybe(c.arg.as_deref()),
            NodeEnum::SubLink(l) => {
                self.operator(&l.oper_name);
                self.maybe(l.testexpr.as_deref());
                match l.subselect.as_deref().and_then(|select| select.node.as_ref()) {
                    Some(select) => self.query(select),
                    None => self.unknown("a subquery"),
                }
            }
            NodeEnum::CaseExpr(c) => {
                self.maybe(c.arg.as_deref());
                self.all(&c.args);
                self.maybe(c.defresult.as_deref());
            }
            NodeEnum::CaseWhen(w) => {
                self.maybe(w.expr.as_deref());
                self.maybe(w.result.as_deref());
            }
            NodeEnum::CoalesceExpr(c) => self.all(&c.args),
            NodeEnum::MinMaxExpr(m) => self.all(&m.args),
            NodeEnum::NullTest(t) => self.maybe(t.arg.as_deref()),
            NodeEnum::BooleanTest(t) => self.maybe(t.arg.as_deref()),
            NodeEnum::RowExpr(r) => self.all(&r.args),
            NodeEnum::GroupingSet(g) => self.all(&g.content),
            NodeEnum::GroupingFunc(g) => self.all(&g.args),
            NodeEnum::SortBy(s) => {
                self.operator(&s.use_op);
                self.maybe(s.node.as_deref());
            }
            NodeEnum::WindowDef(w) => self.window(w),
            NodeEnum::ResTarget(t) => {
                self.all(&t.indirection);
                self.maybe(t.val.as_deref());
            }
            NodeEnum::MultiAssignRef(m) => self.maybe(m.source.as_deref()),
            NodeEnum::IndexElem(e) => self.maybe(e.expr.as_deref()),
            NodeEnum::RangeVar(relation) => self.range(relation),
            NodeEnum::JoinExpr(join) => self.join(join),
            NodeEnum::RangeSubselect(s) => {
                // LATERAL or not, it sees at most what stands around it.
                match s.subquery.as_deref().and_then(|select| select.node.as_ref()) {
                    Some(select) => self.query(select),
                    None => self.unknown("a subquery"),
                }
                let name = s.alias.as_ref().map(|a| a.aliasname.clone()).unwrap_or_default();
                self.stand((name, None));
            }
            NodeEnum::RangeFunction(f) => {
                for item in &f.functions {
                    // Each is a list of the call and the definitions of its columns.
                    match &item.node {
                        Some(NodeEnum::List(list)) => {
                            self.maybe(list.items.first());
                            if let Some(NodeEnum::List(columns)) =
                                list.items.get(1).and_then(|item| item.node.as_ref())
                            {
                                self.definitions(&columns.items);
                            }
                        }
                        _ => self.node(item),
                    }
                }
                self.definitions(&f.coldeflist);
                let name = f.alias.as_ref().map(|a| a.aliasname.clone()).unwrap_or_default();
                self.stand((name, None));
            }
            NodeEnum::RangeTableSample(s) => {
                self.maybe(s.relation.as_deref());
                self.all(&s.args);
                self.maybe(s.repeatable.as_deref());
            }
            NodeEnum::RangeTableFunc(f) => {
                self.maybe(f.docexpr.as_deref());
                self.maybe(f.rowexpr.as_deref());
                self.all(&f.namespaces);
                self.all(&f.columns);
                let name = f.alias.as_ref().map(|a| a.aliasname.clone()).unwrap_or_default();
                self.stand((name, None));
            }
            NodeEnum::RangeTableFuncCol(c) => {
                self.type_name(c.type_name.as_ref());
                self.maybe(c.colexpr.as_deref());
                self.maybe(c.coldefexpr.as_deref());
            }
            NodeEnum::XmlExpr(x) => {
                self.all(&x.named_args);
                self.all(&x.args);
            }
            NodeEnum::XmlSerialize(x) => {
                self.type_name(x.type_name.as_ref());
                self.maybe(x.expr.as_deref());
            }
            NodeEnum::JsonFuncExpr(j) => {
                self.json_value(j.context_item.as_deref());
                self.maybe(j.pathspec.as_deref());
                self.all(&j.passing);
                self.json_output(j.output.as_ref());
                self.json_behavior(j.on_empty.as_deref());
                self.json_behavior(j.on_error.as_deref());
            }
            NodeEnum::JsonArgument(a) => self.json_value(a.val.as_deref()),
            NodeEnum::JsonValueExpr(v) => self.json_value(Some(v)),
            NodeEnum::JsonKeyValue(k) => {
                self.maybe(k.key.as_deref());
                self.json_value(k.value.as_deref());
            }
            NodeEnum::JsonTable(t) => {
                self.json_value(t.context_item.as_deref());
                self.json_path(t.pathspec.as_deref());
                self.all(&t.passing);
                self.all(&t.columns);
                self.json_behavior(t.on_error.as_deref());
                let name = t.alias.as_ref().map(|a| a.aliasname.clone()).unwrap_or_default();
                self.stand((name, None));
            }
            NodeEnum::JsonTableColumn(c) => {
                self.type_name(c.type_name.as_ref());
                self.json_path(c.pathspec.as_deref());
                self.all(&c.columns);
                self.json_behavior(c.on_empty.as_deref());
                self.json_behavior(c.on_error.as_deref());
            }
            NodeEnum::JsonObjectConstructor(c) => {
                self.json_output(c.output.as_ref());
                self.all(&c.exprs);
            }
            NodeEnum::JsonArrayConstructor(c) => {
                self.json_output(c.output.as_ref());
                self.all(&c.exprs);
            }
            NodeEnum::JsonArrayQueryConstructor(c) => {
                self.json_output(c.output.as_ref());
                match c.query.as_deref().and_then(|query| query.node.as_ref()) {
                    Some(query) => self.query(query),
                    None => self.unknown("a subquery"),
                }
            }
            NodeEnum::JsonObjectAgg(a) => {
                if let Some(constructor) = &a.constructor {
                    self.json_aggregate(constructor);
                }
                if let Some(arg) = &a.arg {
                    self.maybe(arg.key.as_deref());
                    self.json_value(arg.value.as_deref());
                }
            }
            NodeEnum::JsonArrayAgg(a) => {
                if let Some(constructor) = &a.constructor {
                    self.json_aggregate(constructor);
                }
                self.json_value(a.arg.as_deref());
            }
            NodeEnum::JsonParseExpr(e) => {
                self.json_output(e.output.as_ref());
                self.json_value(e.expr.as_deref());
            }
            NodeEnum::JsonScalarExpr(e) => {
                self.json_output(e.output.as_ref());
                self.maybe(e.expr.as_deref());
            }
            NodeEnum::JsonSerializeExpr(e) => {
                self.json_output(e.output.as_ref());
                self.json_value(e.expr.as_deref());
            }
            NodeEnum::JsonIsPredicate(p) => self.maybe(p.expr.as_deref()),
            NodeEnum::SelectStmt(select) => self.select(select),
            _ => self.unknown("a part of it"),
        }
    }

    fn window(&mut self, window: &WindowDef) {
        self.all(&window.partition_clause);
        self.all(&window.order_clause);
        self.maybe(window.start_offset.as_deref());
        self.maybe(window.end_offset.as_deref());
    }

    fn json_value(&mut self, value: Option<&JsonValueExpr>) {
        let Some(value) = value else { return };
        self.maybe(value.raw_expr.as_deref());
        self.maybe(value.formatted_expr.as_deref());
    }

    fn json_output(&mut self, output: Option<&JsonOutput>) {
        if let Some(output) = output {
            self.type_name(output.type_name.as_ref());
        }
    }

    /// Types and operators of the schemas where everybody's are belong to their owners: an agent can
    /// make none without a person's word. One of another schema is named by who wants just that one.
    pub(in super::super) fn type_name(&mut self, name: Option<&TypeName>) {
        let parts = name.map(|name| name.names.as_slice()).unwrap_or_default();
        self.usual("type", parts);
    }

    fn operator(&mut self, parts: &[Node]) {
        self.usual("operator", parts);
    }

    fn usual(&mut self, what: &str, parts: &[Node]) {
        let [.., schema, name] = parts else { return };
        let (schema, name) = (text(schema).unwrap_or("?"), text(name).unwrap_or("?"));
        if !["pg_catalog", "public", "information_schema"].contains(&schema) {
            let reason =
                format!("it uses the {what} {schema}.{name}, which is not known to be harmless");
            self.raise(Rung::Destructive, reason);
            self.statement.opaque = true;
            // It calls a function of that schema.
            let name = QualifiedName { schema: Some(schema.to_owned()), name: name.to_owned() };
            if !self.statement.functions.contains(&name) {
                self.statement.functions.push(name);
            }
        }
    }

    /// Columns that a function's result is said to have.
    fn definitions(&mut self, columns: &[Node]) {
        for column in columns {
            match &column.node {
                Some(NodeEnum::ColumnDef(column)) => self.type_name(column.type_name.as_ref()),
                _ => self.unknown("a part of it"),
            }
        }
    }

    fn json_path(&mut self, path: Option<&JsonTablePathSpec>) {
        if let Some(path) = path {
            self.maybe(path.string.as_deref());
        }
    }

    fn json_behavior(&mut self, behavior: Option<&JsonBehavior>) {
        if let Some(behavior) = behavior {
            self.maybe(behavior.expr.as_deref());
        }
    }

    fn json_aggregate(&mut self, aggregate: &JsonAggConstructor) {
        self.json_output(aggregate.output.as_ref());
        self.maybe(aggregate.agg_filter.as_deref());
        self.all(&aggregate.agg_order);
        if let Some(over) = &aggregate.over {
            self.window(over);
        }
    }

    fn join(&mut self, join: &JoinExpr) {
        self.maybe(join.larg.as_deref());
        self.maybe(join.rarg.as_deref());
        self.maybe(join.quals.as_deref());
        for name in join.using_clause.iter().filter_map(text) {
            self.column(None, name.to_owned(), Access::Read);
        }
        if join.is_natural {
            self.column(None, "*".into(), Access::Read);
        }
        if let Some(alias) = &join.alias {
            if !alias.colnames.is_empty() {
                self.column(None, "*".into(), Access::Read);
            }
            self.stand((alias.aliasname.clone(), None));
        }
    }

    fn stand(&mut self, what: (String, Option<QualifiedName>)) {
        if let Some(level) = self.level() {
            level.push(what);
        }
    }

    fn range(&mut self, relation: &RangeVar) {
        let name = name_of(relation);
        let is_query = name.schema.is_none() && self.queries.contains(&name.name);
        if is_query {
            return self.stand((alias(relation), None));
        }
        self.touch(Some(relation), Access::Read);
        if relation.alias.as_ref().is_some_and(|alias| !alias.colnames.is_empty()) {
            // Its columns go by other names.
            self.column(Some(name.clone()), "*".into(), Access::Read);
        }
        self.stand((alias(relation), Some(name)));
    }

    fn column_ref(&mut self, column: &ColumnRef) {
        let mut parts: Vec<&str> = Vec::new();
        for field in &column.fields {
            match &field.node {
                Some(NodeEnum::AStar(_)) => parts.push("*"),
                _ => parts.push(text(field).unwrap_or("*")),
            }
        }
        match parts.as_slice() {
            [name] => {
                let (name, level) = ((*name).to_owned(), self.levels.last().map(Vec::as_slice));
                let of = match level {
                    Some([(_, relation)]) if self.levels.len() == 1 => relation.clone(),
                    _ => None,
                };
                // The name of what stands in FROM is the whole row of it.
                let row = self.levels.iter().flatten().find(|(alias, _)| *alias == name).cloned();
                if let Some((_, relation)) = row {
                    self.column(relation, "*".into(), Access::Read);
                }
                self.column(of, name, Access::Read);
            }
            [qualifier, name] => {
                let found = self
                    .levels
                    .iter()
                    .rev()
                    .flatten()
                    .find(|(alias, _)| alias == qualifier)
                    .map(|(_, relation)| relation.clone());
                let (name, of) = ((*name).to_owned(), found.flatten());
                self.field(&name);
                self.column(of, name, Access::Read);
            }
            [.., schema, relation, name] => {
                let of = QualifiedName {
                    schema: Some((*schema).to_owned()),
                    name: (*relation).to_owned(),
                };
                let name = (*name).to_owned();
                self.field(&name);
                self.column(Some(of), name, Access::Read);
            }
            [] => self.unknown("a column"),
        }
    }

    fn fields(&mut self, indirection: &[Node]) {
        for name in indirection.iter().filter_map(text).map(str::to_owned).collect::<Vec<_>>() {
            self.field(&name);
        }
    }

    /// `row.name` calls the function `name` of a row where the row has no such column
    /// (`ParseFuncOrColumn`, `src/backend/parser/parse_func.c`). Which of both it is only the catalog
    /// tells; of PostgreSQL's own functions those that do harm are known.
    fn field(&mut self, name: &str) {
        let function = QualifiedName { schema: None, name: name.to_owned() };
        if let Some(rung @ (Rung::Forbidden | Rung::Write)) = functions::rung(&function) {
            self.raise(rung, format!("it may call {name}"));
        }
    }

    fn call(&mut self, call: &FuncCall) {
        let FuncCall {
            funcname,
            args,
            agg_order,
            agg_filter,
            over,
            agg_within_group: _,
            agg_star: _,
            agg_distinct: _,
            func_variadic: _,
            funcformat: _,
            location: _,
        } = call;
        let names: Vec<&str> = funcname.iter().filter_map(text).collect();
        self.function(&names);
        self.all(args);
        self.all(agg_order);
        self.maybe(agg_filter.as_deref());
        if let Some(over) = over {
            self.window(over);
        }
    }

    pub(in super::super) fn function(&mut self, names: &[&str]) {
        let function = match names {
            [name] => QualifiedName { schema: None, name: (*name).to_owned() },
            [.., schema, name] => {
                QualifiedName { schema: Some((*schema).to_owned()), name: (*name).to_owned() }
            }
            [] => return self.unknown("a function"),
        };
        match functions::rung(&function) {
            Some(Rung::Read) => {}
            Some(rung) => self.raise(rung, format!("it calls {function}")),
            None => {
                self.raise(
                    Rung::Destructive,
                    format!("it calls {function}, which is not known to be harmless"),
                );
                self.statement.opaque = true;
            }
        }
        if !self.statement.functions.contains(&function) {
            self.statement.functions.push(function);
        }
    }
}
