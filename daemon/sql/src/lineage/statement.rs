//! Whole statements.

use chaperone_model::{How, Origin, Outputs};
use pg_query::{
    Node, NodeEnum,
    protobuf::{CopyStmt, ExplainStmt},
};

use super::{Out, Walk, outputs};
use crate::read::names;

impl Walk<'_> {
    pub(super) fn statement(&mut self, node: &NodeEnum) -> (Outputs, bool) {
        let found = match node {
            NodeEnum::SelectStmt(select) => {
                let outs = self.select(select);
                if select.into_clause.is_some() { Outputs::None } else { outputs(outs) }
            }
            NodeEnum::InsertStmt(_) | NodeEnum::UpdateStmt(_) | NodeEnum::DeleteStmt(_) => {
                self.changed(node)
            }
            NodeEnum::PrepareStmt(prepare) => self.inner(prepare.query.as_deref()),
            NodeEnum::DeclareCursorStmt(declare) => self.inner(declare.query.as_deref()),
            NodeEnum::ExecuteStmt(execute) => {
                let origin = self.expressions(&execute.params);
                self.used(&origin, How::Computed);
                Outputs::Of(names::cut(&execute.name))
            }
            NodeEnum::FetchStmt(fetch) if fetch.ismove => Outputs::None,
            NodeEnum::FetchStmt(fetch) => Outputs::Of(names::cut(&fetch.portalname)),
            NodeEnum::ExplainStmt(explain) => self.explain(explain),
            NodeEnum::CopyStmt(copy) => return self.copy(copy),
            NodeEnum::CreateTableAsStmt(create) => {
                let outs = self.subquery(create.query.as_deref());
                self.copied(outs.as_deref());
                Outputs::None
            }
            NodeEnum::ViewStmt(view) => {
                let outs = self.subquery(view.query.as_deref());
                self.copied(outs.as_deref());
                Outputs::None
            }
            // They show no rows, and what they do with rows is to lose or to keep them.
            NodeEnum::TransactionStmt(_)
            | NodeEnum::TruncateStmt(_)
            | NodeEnum::DropStmt(_)
            | NodeEnum::LockStmt(_)
            | NodeEnum::VacuumStmt(_)
            | NodeEnum::ClosePortalStmt(_)
            | NodeEnum::DeallocateStmt(_)
            | NodeEnum::DiscardStmt(_)
            | NodeEnum::ListenStmt(_)
            | NodeEnum::UnlistenStmt(_)
            | NodeEnum::VariableSetStmt(_)
            | NodeEnum::RefreshMatViewStmt(_) => Outputs::None,
            _ => {
                self.lost();
                Outputs::Unknown
            }
        };
        (found, false)
    }

    fn changed(&mut self, node: &NodeEnum) -> Outputs {
        match self.change(node) {
            Some(outs) if outs.is_empty() => Outputs::None,
            outs => outputs(outs),
        }
    }

    fn inner(&mut self, node: Option<&Node>) -> Outputs {
        if let Some(
            node @ (NodeEnum::SelectStmt(_)
            | NodeEnum::InsertStmt(_)
            | NodeEnum::UpdateStmt(_)
            | NodeEnum::DeleteStmt(_)),
        ) = node.and_then(|node| node.node.as_ref())
        {
            return self.statement(node).0;
        }
        self.lost();
        Outputs::Unknown
    }

    /// A plan shows how rows are found and how many there are, and no values but the statement's own:
    /// where nothing masked decides that, it tells nothing.
    fn explain(&mut self, explain: &ExplainStmt) -> Outputs {
        self.inner(explain.query.as_deref());
        let tells = self.uses.iter().any(|one| one.how != How::Written);
        if tells {
            self.lost();
            return Outputs::Unknown;
        }
        Outputs::Columns(vec![Origin::Clear])
    }

    fn copy(&mut self, copy: &CopyStmt) -> (Outputs, bool) {
        let CopyStmt {
            relation,
            query,
            attlist,
            is_from,
            is_program: _,
            filename: _,
            options: _,
            where_clause,
        } = copy;
        if let Some(query) = query {
            let outs = match &query.node {
                Some(NodeEnum::SelectStmt(select)) => self.select(select),
                Some(node) => self.change(node),
                None => None,
            };
            return (outputs(outs), true);
        }
        let Some(relation) = relation else {
            self.lost();
            return (Outputs::Unknown, true);
        };
        let item = self.relation(relation);
        let named = names::parts(attlist);
        let is_meant = |out: &&Out| named.is_empty() || named.contains(&out.name.as_str());
        let columns: Vec<Out> = item.columns.iter().filter(is_meant).cloned().collect();
        if *is_from {
            for column in &columns {
                self.used(&column.origin, How::Written);
            }
            if item.unknown {
                self.used(&Origin::Unknown, How::Written);
            }
            self.levels.push(vec![item]);
            if let Some(condition) = where_clause {
                self.condition(condition);
            }
            self.levels.pop();
            return (Outputs::None, false);
        }
        let whole = item.unknown || item.open || !named.is_empty() && columns.len() != named.len();
        let outs = if whole && !item.open { None } else { Some(columns) };
        (outputs(outs), true)
    }
}
