//! SQL/JSON: node types of their own since PostgreSQL 16. An older server takes what is spelt alike
//! for calls of functions of these names, which the owners of its schemas would have made.

use pg_query::{
    NodeEnum,
    protobuf::{
        JsonAggConstructor, JsonArgument, JsonArrayAgg, JsonArrayConstructor,
        JsonArrayQueryConstructor, JsonBehavior, JsonFormat, JsonFuncExpr, JsonIsPredicate,
        JsonKeyValue, JsonObjectAgg, JsonObjectConstructor, JsonOutput, JsonParseExpr,
        JsonReturning, JsonScalarExpr, JsonSerializeExpr, JsonTable, JsonTableColumn,
        JsonTablePathSpec, JsonValueExpr,
    },
};

use super::walk::Walk;

impl Walk {
    pub(super) fn json(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::JsonFuncExpr(node) => {
                let JsonFuncExpr {
                    op: _,
                    column_name: _,
                    context_item,
                    pathspec,
                    passing,
                    output,
                    on_empty,
                    on_error,
                    wrapper: _,
                    quotes: _,
                    location: _,
                } = &**node;
                self.json_value(context_item.as_deref());
                self.maybe(pathspec.as_deref());
                self.expressions(passing);
                self.json_output(output.as_ref());
                self.json_behavior(on_empty.as_deref());
                self.json_behavior(on_error.as_deref());
            }
            NodeEnum::JsonArgument(node) => {
                let JsonArgument { val, name: _ } = &**node;
                self.json_value(val.as_deref());
            }
            NodeEnum::JsonValueExpr(node) => self.json_value(Some(node)),
            NodeEnum::JsonKeyValue(node) => self.json_pair(Some(node)),
            NodeEnum::JsonIsPredicate(node) => {
                let JsonIsPredicate { expr, format: _, item_type: _, unique_keys: _, location: _ } =
                    &**node;
                self.maybe(expr.as_deref());
            }
            NodeEnum::JsonParseExpr(node) => {
                let JsonParseExpr { expr, output, unique_keys: _, location: _ } = &**node;
                self.json_value(expr.as_deref());
                self.json_output(output.as_ref());
            }
            NodeEnum::JsonScalarExpr(node) => {
                let JsonScalarExpr { expr, output, location: _ } = &**node;
                self.maybe(expr.as_deref());
                self.json_output(output.as_ref());
            }
            NodeEnum::JsonSerializeExpr(node) => {
                let JsonSerializeExpr { expr, output, location: _ } = &**node;
                self.json_value(expr.as_deref());
                self.json_output(output.as_ref());
            }
            NodeEnum::JsonObjectConstructor(node) => {
                let JsonObjectConstructor {
                    exprs,
                    output,
                    absent_on_null: _,
                    unique: _,
                    location: _,
                } = node;
                self.expressions(exprs);
                self.json_output(output.as_ref());
            }
            NodeEnum::JsonArrayConstructor(node) => {
                let JsonArrayConstructor { exprs, output, absent_on_null: _, location: _ } = node;
                self.expressions(exprs);
                self.json_output(output.as_ref());
            }
            NodeEnum::JsonArrayQueryConstructor(node) => {
                let JsonArrayQueryConstructor {
                    query,
                    output,
                    format: _,
                    absent_on_null: _,
                    location: _,
                } = &**node;
                self.query(query.as_deref());
                self.json_output(output.as_ref());
            }
            NodeEnum::JsonObjectAgg(node) => {
                let JsonObjectAgg { constructor, arg, absent_on_null: _, unique: _ } = &**node;
                self.json_aggregate(constructor.as_deref());
                self.json_pair(arg.as_deref());
            }
            NodeEnum::JsonArrayAgg(node) => {
                let JsonArrayAgg { constructor, arg, absent_on_null: _ } = &**node;
                self.json_aggregate(constructor.as_deref());
                self.json_value(arg.as_deref());
            }
            _ => self.unknown("holds an expression"),
        }
    }

    pub(super) fn json_table(&mut self, table: &JsonTable) {
        let JsonTable {
            context_item,
            pathspec,
            passing,
            columns,
            on_error,
            alias,
            lateral: _,
            location: _,
        } = table;
        self.json_value(context_item.as_deref());
        self.json_path(pathspec.as_deref());
        self.expressions(passing);
        for column in columns {
            match &column.node {
                Some(NodeEnum::JsonTableColumn(column)) => self.json_column(column),
                _ => self.unknown("makes a column"),
            }
        }
        self.json_behavior(on_error.as_deref());
        self.derived(alias.as_ref());
    }

    fn json_column(&mut self, column: &JsonTableColumn) {
        let JsonTableColumn {
            coltype: _,
            name: _,
            type_name,
            pathspec,
            format: _,
            wrapper: _,
            quotes: _,
            columns,
            on_empty,
            on_error,
            location: _,
        } = column;
        self.type_name(type_name.as_ref());
        self.json_path(pathspec.as_deref());
        for column in columns {
            match &column.node {
                Some(NodeEnum::JsonTableColumn(column)) => self.json_column(column),
                _ => self.unknown("makes a column"),
            }
        }
        self.json_behavior(on_empty.as_deref());
        self.json_behavior(on_error.as_deref());
    }

    fn json_value(&mut self, value: Option<&JsonValueExpr>) {
        let Some(JsonValueExpr { raw_expr, formatted_expr, format: _ }) = value else { return };
        self.maybe(raw_expr.as_deref());
        self.maybe(formatted_expr.as_deref());
    }

    fn json_pair(&mut self, pair: Option<&JsonKeyValue>) {
        let Some(JsonKeyValue { key, value }) = pair else { return };
        self.maybe(key.as_deref());
        self.json_value(value.as_deref());
    }

    fn json_output(&mut self, output: Option<&JsonOutput>) {
        let Some(JsonOutput { type_name, returning }) = output else { return };
        self.type_name(type_name.as_ref());
        if let Some(JsonReturning { format, typid: _, typmod: _ }) = returning {
            let Some(JsonFormat { format_type: _, encoding: _, location: _ }) = format else {
                return;
            };
        }
    }

    fn json_path(&mut self, path: Option<&JsonTablePathSpec>) {
        let Some(JsonTablePathSpec { string, name: _, name_location: _, location: _ }) = path
        else {
            return;
        };
        self.maybe(string.as_deref());
    }

    fn json_behavior(&mut self, behavior: Option<&JsonBehavior>) {
        let Some(JsonBehavior { btype: _, expr, coerce: _, location: _ }) = behavior else {
            return;
        };
        self.maybe(expr.as_deref());
    }

    fn json_aggregate(&mut self, aggregate: Option<&JsonAggConstructor>) {
        let Some(JsonAggConstructor { output, agg_filter, agg_order, over, location: _ }) =
            aggregate
        else {
            return;
        };
        self.json_output(output.as_ref());
        self.maybe(agg_filter.as_deref());
        self.expressions(agg_order);
        if let Some(window) = over {
            self.window(window);
        }
    }
}
