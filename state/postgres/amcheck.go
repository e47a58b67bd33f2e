package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Amcheck is the extension amcheck in one database of a restored copy.
type Amcheck struct {
	c      *Conn
	schema string // quoted
	heap   bool
}

// CheckedRelation is a relation that amcheck can look at.
type CheckedRelation struct {
	OID   string
	Name  string // schema and name
	Table string // of an index: the table's
	Heap  bool   // a table; else a B-tree
}

// Amcheck makes the extension in the database of the session, or brings the one that is there to the version of the programs.
// why is not empty when they have none, or the database refuses it: then nothing can be checked.
func (c *Conn) Amcheck(ctx context.Context) (a *Amcheck, why string, err error) {
	q := func(sql string) question { return question{action: "make the extension amcheck in the copy", sql: sql} }
	found, err := c.rows(ctx, q("select 1 from pg_available_extensions where name = 'amcheck'"))
	if err != nil {
		return nil, "", err
	}
	if len(found) == 0 {
		return nil, "the PostgreSQL programs here have no extension amcheck (the contrib package)", nil
	}
	if err := c.silenceEvents(ctx); err != nil {
		return nil, "", err
	}
	for _, sql := range []string{"create extension if not exists amcheck schema pg_catalog", "alter extension amcheck update"} {
		_, err := c.rows(ctx, q(sql))
		var pg *pgconn.PgError
		if errors.As(err, &pg) && ctx.Err() == nil && c.Alive() && !NoVerdict(err) {
			return nil, "the extension amcheck could not be made: " + Said(err), nil // it says nothing of what is stored
		}
		if err != nil {
			return nil, "", err
		}
	}
	row, err := c.row(ctx, 2, q("select format('%I', n.nspname), exists (select from pg_proc p where p.pronamespace = n.oid and p.proname = 'verify_heapam')"+
		" from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'amcheck'"))
	if err != nil {
		return nil, "", err
	}
	return &Amcheck{c: c, schema: string(row[0]), heap: string(row[1]) == "t"}, "", nil
}

// silenceEvents disables, in the copy, the event triggers that fire whatever session_replication_role is: before 17 nothing else
// keeps them from what they do to who makes an extension.
func (c *Conn) silenceEvents(ctx context.Context) error {
	rows, err := c.rows(ctx, question{action: "ask the copy for its event triggers", sql: "select format('alter event trigger %I disable', evtname) from pg_event_trigger where evtenabled in ('A', 'R')"})
	if err != nil {
		return err
	}
	for _, r := range rows {
		if _, err := c.rows(ctx, question{action: "disable an event trigger of the copy", sql: string(r[0])}); err != nil {
			return err
		}
	}
	return nil
}

// ChecksHeap tells whether tables can be checked too: from PostgreSQL 14 on.
func (a *Amcheck) ChecksHeap() bool { return a.heap }

// The relations that a recovery brings back: neither temporary nor unlogged.
const (
	btrees = `select c.oid, format('%I.%I', n.nspname, c.relname), format('%I.%I', tn.nspname, t.relname), false
from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace join pg_am am on am.oid = c.relam
join pg_class t on t.oid = i.indrelid join pg_namespace tn on tn.oid = t.relnamespace
where am.amname = 'btree' and c.relkind = 'i' and c.relpersistence = 'p' and i.indisready and i.indisvalid order by c.oid`
	heaps = `select c.oid, format('%I.%I', n.nspname, c.relname), '', true
from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_am am on am.oid = c.relam
where am.amname = 'heap' and c.relkind in ('r', 'm', 't') and c.relpersistence = 'p' order by c.oid`
)

// Relations lists what can be checked: tables where heap asks for them and the version can, then B-trees.
func (a *Amcheck) Relations(ctx context.Context, heap bool) ([]CheckedRelation, error) {
	lists := []string{btrees}
	if heap && a.heap {
		lists = []string{heaps, btrees} // a B-tree is compared with its table, and damage there would be told as its own
	}
	var out []CheckedRelation
	for _, sql := range lists {
		rows, err := a.c.rows(ctx, question{action: "list what amcheck can check", sql: sql})
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			s := scan{fields: r}
			out = append(out, CheckedRelation{OID: s.text(), Name: cleanText(s.text()), Table: cleanText(s.text()), Heap: s.bool()})
			if s.err != nil {
				return nil, fmt.Errorf("list what amcheck can check: %w", s.err)
			}
		}
	}
	return out, nil
}

// Check looks at one relation. damage is not empty when something is wrong with it, in the server's words. The error is for
// a session that was lost, or a ctx that ended.
func (a *Amcheck) Check(ctx context.Context, r CheckedRelation) (damage string, err error) {
	q := question{action: "check " + r.Name, sql: "select " + a.schema + ".bt_index_check($1::oid::regclass, true)", args: []string{r.OID}}
	if r.Heap {
		q.sql = "select 'block ' || blkno || coalesce(', line ' || offnum, '') || ': ' || msg from " + a.schema + ".verify_heapam($1::oid::regclass, on_error_stop => true) limit 1"
	}
	rows, err := a.c.rows(ctx, q)
	switch {
	case err != nil && (ctx.Err() != nil || !a.c.Alive() || NoVerdict(err)):
		return "", err
	case err != nil:
		return Said(err), nil
	case r.Heap && len(rows) > 0:
		return cleanText(string(rows[0][0])), nil
	}
	return "", nil
}

// relationFile is how a message names a relation whose page it could not read.
var relationFile = regexp.MustCompile(`(?:base|global|pg_tblspc/[0-9]+/PG_[0-9_]+)/[0-9]+(?:/[0-9]+)?`)

// Which tells, where damage names the file of another relation than the one that was looked at, which one that is: the table of
// an index. Else it is empty.
func (a *Amcheck) Which(ctx context.Context, damage string, looked CheckedRelation) string {
	file := relationFile.FindString(damage)
	if file == "" {
		return ""
	}
	rows, err := a.c.rows(ctx, question{
		action: "ask whose file is damaged", args: []string{file},
		sql: "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace where pg_relation_filepath(c.oid) = $1",
	})
	if err != nil || len(rows) == 0 || cleanText(string(rows[0][0])) == looked.Name { // a word more is for people
		return ""
	}
	return ", which is " + cleanText(string(rows[0][0]))
}

// NoVerdict tells whether a question was ended by something that says nothing of what was asked: no memory, no space, a cancellation.
func NoVerdict(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (strings.HasPrefix(pg.Code, "53") || strings.HasPrefix(pg.Code, "57"))
}

// Collations says that the database was made with other rules of collation than the programs here have, so that a sound index on text
// looks damaged; empty: it was not, or PostgreSQL is older than 15 and does not know.
func (c *Conn) Collations(ctx context.Context) (string, error) {
	if c.version < 150000 {
		return "", nil
	}
	rows, err := c.rows(ctx, question{
		action: "ask for the version of the collation", sql: "select datcollversion, pg_database_collation_actual_version(oid) from pg_database where datname = current_database() and datcollversion <> pg_database_collation_actual_version(oid)",
	})
	if err != nil || len(rows) == 0 {
		return "", err
	}
	return fmt.Sprintf("its collation is of version %s and this machine's of version %s: an index on text can look damaged because of that", cleanText(string(rows[0][0])), cleanText(string(rows[0][1]))), nil
}
