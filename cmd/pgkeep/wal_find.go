package main

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/wal"
)

// momentAsk is what `wal find` is asked for.
type momentAsk struct {
	walAsk
	dropTable, truncate, massDelete, dropDatabase, replaced bool
	restorePoint                                            string
	xid                                                     uint32
	around                                                  string
	minRows, limit                                          int
	table                                                   string
}

// anyRestorePoint stands for --restore-point without a name.
const anyRestorePoint = "*"

func walFindCommand(a *app) *cobra.Command {
	var ask momentAsk
	c := &cobra.Command{
		Use: "find [TABLE]", Short: "Find the transaction that did the harm, and the command that recovers to just before it", Args: cobra.MaximumNArgs(1),
		Long: `Searches the archived WAL and lists transactions that dropped or truncated tables, dropped a database, or deleted many rows,
the newest last, each with the command that recovers to just before it. Without one of the flags it looks for all of these.
TABLE narrows the list: a name or schema.name, with * and ?; what has no known name is listed too.

One entry is the time of the commit, its LSN, its xid and what it did; the command stops right before that commit. Names are
read from the catalogs in the newest backup before the transaction. For a table that was made after that backup and is still
there the server is asked; one that is gone is told by its numbers. A name after which "?" stands may have been given to something else since.

--from and --to bound the time of the commits: a moment, or a duration before now. Without --from it is the last 7 days.`,
		Example: "  pgkeep wal find --server orders --drop-table\n  pgkeep wal find --server orders --drop-table orders --from 2h\n  pgkeep wal find --server orders --mass-delete --min-rows 100\n  pgkeep wal find --server orders --around 2026-02-10T21:16:17Z\n  pgkeep wal find --server orders --restore-point before_upgrade",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				ask.table = args[0]
			}
			return a.findMoments(c.Context(), ask)
		},
	}
	ask.flags(c)
	f := c.Flags()
	f.BoolVar(&ask.dropTable, "drop-table", false, "transactions that dropped tables")
	f.BoolVar(&ask.truncate, "truncate", false, "transactions that truncated tables")
	f.BoolVar(&ask.massDelete, "mass-delete", false, "transactions that deleted many rows of a table")
	f.BoolVar(&ask.dropDatabase, "drop-database", false, "transactions that dropped a database")
	f.BoolVar(&ask.replaced, "replaced", false, "transactions that replaced a table's files: VACUUM FULL, ALTER TABLE, REINDEX, or DROP and CREATE in one")
	f.StringVar(&ask.restorePoint, "restore-point", "", "restore points: all, or the one of that `NAME`")
	f.Lookup("restore-point").NoOptDefVal = anyRestorePoint
	f.Uint32Var(&ask.xid, "xid", 0, "the transaction of that id")
	f.StringVar(&ask.around, "around", "", "every transaction within a minute of a moment")
	f.IntVar(&ask.minRows, "min-rows", 1000, "how many deleted rows of one table are many")
	f.IntVar(&ask.limit, "limit", 20, "how many are listed: the newest")
	return c
}

// kinds gives what was asked for; without a flag, all that destroys.
func (ask *momentAsk) kinds() []state.MomentKind {
	var out []state.MomentKind
	for kind, asked := range map[state.MomentKind]bool{
		state.MomentDrop: ask.dropTable, state.MomentTruncate: ask.truncate, state.MomentDelete: ask.massDelete,
		state.MomentDropDatabase: ask.dropDatabase, state.MomentReplace: ask.replaced, state.MomentRestorePoint: ask.restorePoint != "",
		state.MomentTransaction: ask.xid != 0 || ask.around != "",
	} {
		if asked {
			out = append(out, kind)
		}
	}
	if len(out) == 0 {
		return []state.MomentKind{state.MomentDrop, state.MomentTruncate, state.MomentDelete, state.MomentDropDatabase}
	}
	return out
}

// options make a search of what was asked for.
func (a *app) momentOptions(ask *momentAsk) (observe.MomentOptions, error) {
	o := observe.MomentOptions{Kinds: ask.kinds(), XID: ask.xid, Name: ask.restorePoint, MinRows: ask.minRows}
	if o.Name == anyRestorePoint {
		o.Name = ""
		if len(o.Kinds) == 1 { // "--restore-point NAME" is what it is for --restore-point=NAME: a restore point is of no table
			o.Name, ask.table = ask.table, ""
		}
	}
	if ask.limit < 1 || ask.minRows < 1 {
		return o, usage("--limit and --min-rows are at least 1")
	}
	if _, err := path.Match(ask.table, ""); err != nil {
		return o, usage("%q is no pattern: %s", ask.table, err)
	}
	var err error
	if o.From, o.To, err = a.window(ask.walAsk); err != nil {
		return o, err
	}
	if ask.around != "" {
		at, err := hclspec.ParseMoment(ask.around, time.Local)
		if err != nil {
			return o, usage("--around wants a moment: %s", err)
		}
		o.From, o.To = at.Add(-time.Minute), at.Add(time.Minute)
	}
	return o, nil
}

// foundMoment is a moment with the command that recovers to it.
type foundMoment struct {
	state.Moment
	Recover string `json:"recover"`
}

// foundMoments is what is printed.
type foundMoments struct {
	Server     string        `json:"server"`
	Repository string        `json:"repository"`
	Searched   []wal.Range   `json:"searched"`
	Segments   int           `json:"segments"`
	Named      string        `json:"named,omitempty"` // the backup that the names are from
	Live       bool          `json:"live,omitzero"`   // the server was asked for names that no backup has
	Older      int           `json:"older"`           // moments beyond the limit
	Moments    []foundMoment `json:"moments"`
}

func (a *app) findMoments(ctx context.Context, ask momentAsk) error {
	o, err := a.momentOptions(&ask)
	if err != nil {
		return err
	}
	w, closeStore, err := a.openWAL(ctx, ask.walAsk)
	if err != nil {
		return err
	}
	defer closeStore()
	o.Cluster, o.Archive = w.held.Cluster, observe.ArchiveOf(w.cluster)
	out := foundMoments{Server: w.held.Cluster.Name, Repository: w.held.Repository, Moments: []foundMoment{}}
	var all []state.Moment
	searched, err := observe.Moments(ctx, o, func(m state.Moment) error {
		if all = append(all, m); len(all) >= 2*mostFound {
			out.Older += len(all) - mostFound
			all = slices.Delete(all, 0, len(all)-mostFound)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("search the WAL of %s in repository %s: %w", out.Server, out.Repository, err)
	}
	out.Searched, out.Segments = searched.Range, searched.Segments
	if ask.table == "" && len(all) > ask.limit { // names are read only of what is shown
		out.Older += len(all) - ask.limit
		all = all[len(all)-ask.limit:]
	}
	out.Named = a.nameMoments(ctx, w, all)
	out.Live = a.nameLive(ctx, w, all)
	all = slices.DeleteFunc(all, func(m state.Moment) bool { return !matches(m, ask.table) })
	if n := len(all) - ask.limit; n > 0 {
		out.Older, all = out.Older+n, all[n:]
	}
	for _, m := range all {
		out.Moments = append(out.Moments, foundMoment{m, a.recoverLine(w.spec, out.Server, m)})
	}
	return ask.show(a, out, func() { a.drawMoments(out, o) })
}

// mostFound bounds what a search keeps: the newest, and at most twice as many.
const mostFound = 10_000

// matches tells whether a moment may be of a table that the pattern names.
func matches(m state.Moment, table string) bool {
	if table == "" || len(m.Relations) == 0 {
		return table == "" || m.Kind == state.MomentRestorePoint
	}
	return slices.ContainsFunc(m.Relations, func(r state.NamedRelation) bool {
		if r.Name == "" {
			return true
		}
		parts := strings.Split(r.Name, ".")
		for i := range parts {
			if ok, _ := path.Match(table, strings.Join(parts[i:], ".")); ok {
				return true
			}
		}
		return false
	})
}

// recoverLine is what recovers to a moment: with the configuration's own block for the server where there is just one. A
// transaction that dropped or replaced a table had it locked, and a copy that is paused before its commit keeps the lock:
// whoever reads the table there waits. It is promoted, which ends the transaction.
func (a *app) recoverLine(spec *hclspec.Spec, server string, m state.Moment) string {
	what := "--server " + server + " --into DIR"
	var blocks []string
	for _, r := range spec.Recoveries {
		if r.Server == server {
			blocks = append(blocks, r.Name)
		}
	}
	if len(blocks) == 1 {
		what = blocks[0]
	}
	if a.dir != "." { // the line is run from where this was
		what += " --dir " + shellWord(a.dir)
	}
	if m.Kind == state.MomentRestorePoint {
		return fmt.Sprintf("pgkeep recover %s --to-name %s", what, shellWord(printable(m.Name)))
	}
	line := fmt.Sprintf("pgkeep recover %s --to-lsn %s --exclusive", what, m.Stop)
	if locked(m) {
		line += " --action promote"
	}
	return line
}

// locked tells whether a transaction had a table for itself. One that is found by its xid or time did when a file of its
// relations went, of which no row was deleted.
func locked(m state.Moment) bool {
	if m.Kind == state.MomentTransaction {
		return slices.ContainsFunc(m.Relations, func(r state.NamedRelation) bool { return r.Rows == 0 })
	}
	return m.Kind == state.MomentDrop || m.Kind == state.MomentTruncate || m.Kind == state.MomentReplace
}

// shellWord quotes a word that a shell would not leave alone.
func shellWord(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// drawMoments prints what was found for people.
func (a *app) drawMoments(f foundMoments, o observe.MomentOptions) {
	fmt.Fprintf(a.out, "Searched the WAL of %s in repository %s", f.Server, f.Repository)
	if !o.From.IsZero() {
		fmt.Fprintf(a.out, ", commits since %s", plan.Moment(o.From))
	}
	switch f.Segments {
	case 0:
		fmt.Fprintln(a.out, ": the index tells of all of it.")
	case 1:
		fmt.Fprintln(a.out, "; 1 segment was read, the index tells of the rest.")
	default:
		fmt.Fprintf(a.out, "; %d segments were read, the index tells of the rest.\n", f.Segments)
	}
	for _, r := range f.Searched {
		fmt.Fprintf(a.out, "  timeline %d, %s to %s\n", r.Timeline, r.From, r.To)
	}
	if len(f.Moments) == 0 {
		fmt.Fprintln(a.out, "\nNothing was found.\n→ look further back: --from 30d; or at every transaction of a time: --around")
		return
	}
	if f.Older > 0 {
		fmt.Fprintf(a.out, "\n%d older ones are not shown: --limit\n", f.Older)
	}
	for _, m := range f.Moments {
		fmt.Fprintf(a.out, "\n%s  %s  %s\n", plan.Moment(m.Time), m.LSN, told(m.Moment))
		if b := m.Before; b != nil {
			fmt.Fprintf(a.out, "  the last commit before it: transaction %d, %s\n", b.XID, plan.Moment(b.Time))
		}
		fmt.Fprintln(a.out, "  →", m.Recover)
	}
	if f.Named != "" {
		fmt.Fprintf(a.out, "\nNames are those of backup %s.\n", f.Named)
	}
	if f.Live {
		fmt.Fprintln(a.out, "Names of tables that are in no backup yet are what the server calls them now.")
	}
	if slices.ContainsFunc(f.Moments, func(m foundMoment) bool { return slices.ContainsFunc(m.Relations, unsure) }) {
		fmt.Fprintln(a.out, "A name with ? is unsure: something else may have that name by now.")
	}
	if slices.ContainsFunc(f.Moments, func(m foundMoment) bool { return strings.HasSuffix(m.Recover, " promote") }) {
		fmt.Fprintln(a.out, "\nWith --action promote the table can be read: where recovery only pauses, it is still locked by who dropped it.")
	}
}

// told says in a sentence what a transaction did.
func told(m state.Moment) string {
	tables, others := []string{}, 0
	for _, r := range m.Relations {
		if r.Kind == "index" || r.Kind == "toast" || r.Kind == "sequence" {
			others++
			continue
		}
		tables = append(tables, relationWord(r))
	}
	if len(tables) == 0 {
		for _, r := range m.Relations {
			tables = append(tables, relationWord(r))
		}
		others = 0
	}
	if more := len(tables) - 5; more > 0 {
		tables = append(tables[:5], fmt.Sprintf("and %d more", more))
	}
	what := strings.Join(tables, ", ")
	if others > 0 {
		what += fmt.Sprintf(" and %d indexes, TOAST tables and sequences of it", others)
	}
	who := fmt.Sprintf("transaction %d ", m.XID)
	switch m.Kind {
	case state.MomentDrop:
		return who + "dropped " + what
	case state.MomentTruncate:
		return who + "truncated " + what
	case state.MomentReplace:
		return who + "replaced the files of " + what
	case state.MomentDelete:
		return fmt.Sprintf("%sdeleted %d rows of %s", who, m.Rows, what)
	case state.MomentDropDatabase:
		return who + "dropped " + what
	case state.MomentRestorePoint:
		return fmt.Sprintf("restore point %q", m.Name)
	case state.MomentTransaction:
	}
	if what != "" {
		return who + "committed: it touched " + what
	}
	return who + "committed"
}

func unsure(r state.NamedRelation) bool { return r.Unsure }

func relationWord(r state.NamedRelation) string {
	word := r.Name
	if word == "" && r.Number == 0 {
		word = fmt.Sprintf("database %d", r.Database)
	}
	if word == "" {
		return fmt.Sprintf("relfilenode %d of database %d", r.Number, r.Database)
	}
	if r.Kind != "" {
		word = r.Kind + " " + word
	}
	if r.Unsure {
		word += "?"
	}
	return word
}
