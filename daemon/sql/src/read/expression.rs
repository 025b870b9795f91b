//! Expressions: each node type that is listed is looked through whole, any other is unknown.

use chaperone_model::{Access, QualifiedName};
use pg_query::{
    Node, NodeEnum,
    protobuf::{
        AArrayExpr, AConst, AExpr, AIndices, AIndirection, BoolExpr, BooleanTest, CaseExpr,
        CaseWhen, CoalesceExpr, CollateClause, ColumnRef, FuncCall, GroupingFunc, GroupingSet,
        IndexElem, List, MinMaxExpr, MultiAssignRef, NamedArgExpr, NullTest, ParamRef, ResTarget,
        RowExpr, SortBy, SubLink, TypeCast, TypeName, WindowDef, XmlExpr, XmlSerialize,
    },
};

use super::{functions, names, walk::Walk};

impl Walk {
    pub(super) fn maybe(&mut self, node: Option<&Node>) {
        if let Some(node) = node {
            self.expression(node);
        }
    }

    pub(super) fn expressions(&mut self, nodes: &[Node]) {
        for node in nodes {
            self.expression(node);
        }
    }

    pub(super) fn expression(&mut self, node: &Node) {
        let Some(node) = &node.node else {
            return self.unknown("holds something empty");
        };
        match node {
            // The session's clock, names and settings; `*` and names are seen by who holds them.
            NodeEnum::SqlvalueFunction(_)
            | NodeEnum::SetToDefault(_)
            | NodeEnum::CurrentOfExpr(_)
            | NodeEnum::AStar(_)
            | NodeEnum::String(_)
            | NodeEnum::Integer(_)
            | NodeEnum::AConst(AConst { isnull: _, location: _, val: _ })
            | NodeEnum::ParamRef(ParamRef { number: _, location: _ }) => {}
            NodeEnum::MergeSupportFunc(_) => {
                // Servers before 17 call a function of that name.
                if !self.in_merge {
                    self.unknown("calls merge_action");
                }
            }
            NodeEnum::ColumnRef(ColumnRef { fields, location: _ }) => self.column_ref(fields),
            NodeEnum::FuncCall(call) => self.function_call(call),
            NodeEnum::SubLink(link) => self.sub_link(link),
            NodeEnum::TypeCast(cast) => {
                let TypeCast { arg, type_name, location: _ } = &**cast;
                // What function a cast calls, the catalog says.
                self.maybe(arg.as_deref());
                self.type_name(type_name.as_ref());
            }
            NodeEnum::TypeName(name) => self.type_name(Some(name)),
            NodeEnum::CollateClause(collate) => self.collate(collate),
            NodeEnum::List(List { items }) => self.expressions(items),
            NodeEnum::ResTarget(target) => {
                let ResTarget { name: _, indirection, val, location: _ } = &**target;
                self.indirection(indirection);
                self.maybe(val.as_deref());
            }
            NodeEnum::MultiAssignRef(assign) => {
                let MultiAssignRef { source, colno: _, ncolumns: _ } = &**assign;
                self.maybe(source.as_deref());
            }
            NodeEnum::AIndirection(node) => {
                let AIndirection { arg, indirection } = &**node;
                self.maybe(arg.as_deref());
                self.indirection(indirection);
            }
            NodeEnum::AIndices(node) => {
                let AIndices { is_slice: _, lidx, uidx } = &**node;
                self.maybe(lidx.as_deref());
                self.maybe(uidx.as_deref());
            }
            NodeEnum::NamedArgExpr(node) => {
                let NamedArgExpr { xpr: _, arg, name: _, argnumber: _, location: _ } = &**node;
                self.maybe(arg.as_deref());
            }
            NodeEnum::WindowDef(window) => self.window(window),
            NodeEnum::SortBy(sort) => {
                let SortBy { node, sortby_dir: _, sortby_nulls: _, use_op, location: _ } = &**sort;
                self.operator(use_op);
                self.maybe(node.as_deref());
            }
            NodeEnum::GroupingSet(GroupingSet { kind: _, content, location: _ }) => {
                self.expressions(content);
            }
            NodeEnum::IndexElem(element) => self.index_element(element),
            NodeEnum::XmlExpr(_) | NodeEnum::XmlSerialize(_) => self.xml(node),
            _ => self.composed(node),
        }
    }

    /// Expressions that are made of others, by the rules of the language alone.
    fn composed(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::AExpr(node) => {
                let AExpr {
                    kind: _,
                    name,
                    lexpr,
                    rexpr,
                    rexpr_list_start: _,
                    rexpr_list_end: _,
                    location: _,
                } = &**node;
                self.operator(name);
                self.maybe(lexpr.as_deref());
                self.maybe(rexpr.as_deref());
            }
            NodeEnum::BoolExpr(node) => {
                let BoolExpr { xpr: _, boolop: _, args, location: _ } = &**node;
                self.expressions(args);
            }
            NodeEnum::NullTest(node) => {
                let NullTest { xpr: _, arg, nulltesttype: _, argisrow: _, location: _ } = &**node;
                self.maybe(arg.as_deref());
            }
            NodeEnum::BooleanTest(node) => {
                let BooleanTest { xpr: _, arg, booltesttype: _, location: _ } = &**node;
                self.maybe(arg.as_deref());
            }
            NodeEnum::CaseExpr(node) => {
                let CaseExpr {
                    xpr: _,
                    casetype: _,
                    casecollid: _,
                    arg,
                    args,
                    defresult,
                    location: _,
                } = &**node;
                if arg.is_some() {
                    self.uses("=");
                }
                self.maybe(arg.as_deref());
                self.expressions(args);
                self.maybe(defresult.as_deref());
            }
            NodeEnum::CaseWhen(node) => {
                let CaseWhen { xpr: _, expr, result, location: _ } = &**node;
                self.maybe(expr.as_deref());
                self.maybe(result.as_deref());
            }
            NodeEnum::CoalesceExpr(node) => {
                let CoalesceExpr { xpr: _, coalescetype: _, coalescecollid: _, args, location: _ } =
                    &**node;
                self.expressions(args);
            }
            NodeEnum::MinMaxExpr(node) => {
                let MinMaxExpr {
                    xpr: _,
                    minmaxtype: _,
                    minmaxcollid: _,
                    inputcollid: _,
                    op: _,
                    args,
                    location: _,
                } = &**node;
                self.expressions(args);
            }
            NodeEnum::AArrayExpr(AArrayExpr {
                elements,
                list_start: _,
                list_end: _,
                location: _,
            }) => {
                self.expressions(elements);
            }
            NodeEnum::RowExpr(node) => {
                let RowExpr {
                    xpr: _,
                    args,
                    row_typeid: _,
                    row_format: _,
                    colnames: _,
                    location: _,
                } = &**node;
                self.expressions(args);
            }
            NodeEnum::GroupingFunc(node) => {
                let GroupingFunc { xpr: _, args, refs: _, agglevelsup: _, location: _ } = &**node;
                self.expressions(args);
            }
            _ => self.json(node),
        }
    }

    fn xml(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::XmlExpr(node) => {
                let XmlExpr {
                    xpr: _,
                    op: _,
                    name: _,
                    named_args,
                    arg_names: _,
                    args,
                    xmloption: _,
                    indent: _,
                    r#type: _,
                    typmod: _,
                    location: _,
                } = &**node;
                self.expressions(named_args);
                self.expressions(args);
            }
            NodeEnum::XmlSerialize(node) => {
                let XmlSerialize { xmloption: _, expr, type_name, indent: _, location: _ } =
                    &**node;
                self.maybe(expr.as_deref());
                self.type_name(type_name.as_ref());
            }
            _ => self.unknown("makes something of XML"),
        }
    }

    pub(super) fn function_call(&mut self, call: &FuncCall) {
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
        self.call(&names::parts(funcname));
        self.expressions(args);
        self.expressions(agg_order);
        self.maybe(agg_filter.as_deref());
        if let Some(window) = over {
            self.window(window);
        }
    }

    pub(super) fn window(&mut self, window: &WindowDef) {
        let WindowDef {
            name: _,
            refname: _,
            partition_clause,
            order_clause,
            frame_options: _,
            start_offset,
            end_offset,
            location: _,
        } = window;
        self.expressions(partition_clause);
        self.expressions(order_clause);
        self.maybe(start_offset.as_deref());
        self.maybe(end_offset.as_deref());
    }

    fn sub_link(&mut self, link: &SubLink) {
        let SubLink {
            xpr: _,
            sub_link_type: _,
            sub_link_id: _,
            testexpr,
            oper_name,
            subselect,
            location: _,
        } = link;
        self.operator(oper_name);
        if oper_name.is_empty() && testexpr.is_some() {
            // `IN`.
            self.uses("=");
        }
        self.maybe(testexpr.as_deref());
        self.query(subselect.as_deref());
    }

    pub(super) fn collate(&mut self, collate: &CollateClause) {
        let CollateClause { arg, collname: _, location: _ } = collate;
        self.maybe(arg.as_deref());
    }

    pub(super) fn type_name(&mut self, name: Option<&TypeName>) {
        /// Those that come before others' of the name, and are written without a schema.
        const OWN: [&str; 12] = [
            "bytea", "date", "inet", "json", "jsonb", "name", "oid", "regclass", "text",
            "tsvector", "uuid", "xml",
        ];
        let Some(name) = name else { return };
        let TypeName {
            names,
            type_oid: _,
            setof: _,
            pct_type: _,
            typmods,
            typemod: _,
            array_bounds,
            location: _,
        } = name;
        if let Some(of) = names::qualified(&names::parts(names))
            && of.schema.as_deref() != Some("pg_catalog")
            && !(of.schema.is_none() && OWN.contains(&of.name.as_str()))
        {
            self.statement.types.push(of);
        }
        self.expressions(typmods);
        self.expressions(array_bounds);
    }

    pub(super) fn index_element(&mut self, element: &IndexElem) {
        let IndexElem {
            name,
            expr,
            indexcolname: _,
            collation: _,
            opclass: _,
            opclassopts: _,
            ordering: _,
            nulls_ordering: _,
        } = element;
        if !name.is_empty() {
            let relation = self.scope.only().cloned();
            self.column(relation, name, Access::Read);
        }
        self.maybe(expr.as_deref());
    }

    /// Subscripts and fields. `row.name` calls the function `name` of a row that has no such column
    /// (`ParseFuncOrColumn`, `src/backend/parser/parse_func.c`): which of both it is only the catalog
    /// tells, but of PostgreSQL's own functions it is known what they do.
    pub(super) fn indirection(&mut self, steps: &[Node]) {
        for step in steps {
            match names::text(step) {
                Some(name) => {
                    self.field(name);
                    self.column(None, name, Access::Read);
                }
                None => self.expression(step),
            }
        }
    }

    fn field(&mut self, name: &str) {
        if functions::does_harm(name).is_some() {
            self.call(&[name]);
        }
    }

    fn column_ref(&mut self, fields: &[Node]) {
        let parts: Vec<&str> =
            fields.iter().map(|field| names::text(field).unwrap_or("*")).collect();
        match parts.as_slice() {
            ["*"] => self.whole_rows(),
            [name] => self.bare_column(name),
            [.., "*"] | [_, _] | [_, _, _] | [_, _, _, _] => self.qualified_column(&parts),
            _ => self.unknown("names a column"),
        }
    }

    fn bare_column(&mut self, name: &str) {
        // The name of what stands in FROM is its whole row, where no column has that name.
        if let Some(relation) = self.scope.find(name).and_then(|item| item.relation.clone()) {
            self.column(Some(relation), "*", Access::Read);
        }
        let relation = self.scope.only().cloned();
        self.column(relation, name, Access::Read);
    }

    fn qualified_column(&mut self, parts: &[&str]) {
        let Some((name, before)) = parts.split_last() else { return };
        self.field(name);
        let relation = match before {
            [alias] => match self.scope.find(alias) {
                Some(item) => item.relation.clone(),
                None => None,
            },
            _ => names::qualified(before).map(|relation| self.of_any_schema(relation)),
        };
        self.column(relation, name, Access::Read);
    }

    /// A relation by which a column is qualified: as FROM names it, without a schema as well.
    fn of_any_schema(&self, relation: QualifiedName) -> QualifiedName {
        let bare = QualifiedName { schema: None, name: relation.name.clone() };
        if !self.scope.has(&relation) && self.scope.has(&bare) { bare } else { relation }
    }
}
