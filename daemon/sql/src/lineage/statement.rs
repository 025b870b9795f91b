//! Whole statements.

use chaperone_model::{Copies, How, Origin, Outputs};
use pg_query::{Node, NodeEnum, protobuf::ExplainStmt};

use super::{Walk, outputs};
use crate::read::{makes_table, names};

impl Walk<'_> {
    pub(super) fn statement(&mut self, node: &NodeEnum) -> (Outputs, Copies) {
        let found = match node {
            NodeEnum::SelectStmt(select) => {
                let outs = self.select(select);
                if makes_table(select) { Outputs::None } else { outputs(outs) }
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
        (found, Copies::No)
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
    /// where nothing masked decides that, it tells nothing. One that was run tells how much there was.
    fn explain(&mut self, explain: &ExplainStmt) -> Outputs {
        self.inner(explain.query.as_deref());
        let is_run = |node: &Node| match &node.node {
            Some(NodeEnum::DefElem(option)) => option.defname.eq_ignore_ascii_case("analyze"),
            _ => true,
        };
        let tells = self.uses.iter().any(|one| one.how != How::Written)
            || self.reads && explain.options.iter().any(is_run);
        if tells {
            self.lost();
            return Outputs::Unknown;
        }
        Outputs::Columns(vec![Origin::Clear])
    }
}
