package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
)

// Ask asks the promoted copy: amcheck, the rows of its largest tables, the declared checks. What is wrong fails the drill.
func (d *DrillRun) Ask(ctx context.Context, report func(done, total int64)) error {
	began := d.Now()
	err := d.ask(ctx, report)
	d.result.Phases = append(d.result.Phases, state.DrillPhase{Name: "checks", Seconds: d.Now().Sub(began).Seconds()})
	if err != nil && ctx.Err() == nil {
		if not := d.noVerdict(ctx, err); not != nil {
			return not
		}
		d.fail("the copy could not be asked: %s", err) // a server that ends or does not answer is no good copy
		return nil
	}
	return err
}

func (d *DrillRun) ask(ctx context.Context, report func(done, total int64)) error {
	user, databases, err := d.enter(ctx)
	if err != nil {
		return err
	}
	for _, name := range d.closed {
		d.note("database %s takes no connections: it was neither checked nor counted", name)
	}
	for i, name := range databases {
		if report != nil {
			report(int64(i), int64(len(databases)))
		}
		if err := d.inDatabase(ctx, user, name); err != nil {
			if err := d.oneOf(ctx, name, err); err != nil {
				return err
			}
		}
	}
	d.gone()
	for _, c := range d.Checks {
		if err := d.answer(ctx, user, c); err != nil {
			return err
		}
	}
	return nil
}

// oneOf tells of a database that cannot be asked, where the others still can. The error is of a copy that does not answer any more.
func (d *DrillRun) oneOf(ctx context.Context, database string, err error) error {
	if ctx.Err() != nil || postgres.NoVerdict(err) {
		return err
	}
	if _, _, gone := d.enter(ctx); gone != nil {
		return errors.Join(err, gone)
	}
	d.fail("database %s could not be asked: %s", database, err)
	d.unasked = append(d.unasked, database)
	return nil
}

// gone fails the drill for tables that the drill before had rows of and that are not there.
func (d *DrillRun) gone() {
	for _, before := range d.before() {
		same := func(r state.DrillRows) bool { return r.Database == before.Database && r.Table == before.Table }
		if before.Rows == 0 || d.Canaries == 0 || slices.Contains(d.unasked, before.Database) || slices.ContainsFunc(d.result.Rows, same) || slices.ContainsFunc(d.there, same) {
			continue
		}
		d.fail("table %s of database %s had %d rows in the drill of %s and is not there now", before.Table, before.Database, before.Rows, d.Before.Ended.Format("2006-01-02 15:04:05 MST"))
	}
}

// before gives the rows to compare with: none for a moment by chance, nor for one that lies before that of the drill before.
func (d *DrillRun) before() []state.DrillRows {
	if d.Before == nil || d.result.Target == "random" || d.Before.Timeline == d.result.Timeline && d.result.End < d.Before.End {
		return nil
	}
	return d.Before.Rows
}

// enter finds a superuser and the databases.
func (d *DrillRun) enter(ctx context.Context) (user string, databases []string, err error) {
	var c *postgres.Conn
	var all error
	for _, role := range d.Roles {
		for _, database := range []string{"postgres", "template1"} {
			var tried error
			if c, tried = postgres.ConnectCopy(ctx, d.socket(), isolatedPort, role, database); tried == nil {
				break
			}
			all = errors.Join(all, tried)
		}
		if c != nil {
			break
		}
	}
	if c == nil {
		return "", nil, fmt.Errorf("no role was let in: %w", all)
	}
	defer c.Close()
	d.result.Version = c.Version()
	if user, err = c.Superuser(ctx); err != nil {
		return "", nil, err
	}
	databases, closed, err := c.CopyDatabases(ctx)
	d.closed = closed
	return user, databases, err
}

func (d *DrillRun) inDatabase(ctx context.Context, user, database string) error {
	c, err := postgres.ConnectCopy(ctx, d.socket(), isolatedPort, user, database)
	if err != nil {
		return err
	}
	defer c.Close()
	if why, err := c.Collations(ctx); err != nil {
		return err
	} else if why != "" {
		d.note("database %s: %s", database, why)
	}
	if err := d.amcheck(ctx, c, database); err != nil {
		return err
	}
	return d.count(ctx, c, database)
}

// amcheck checks what can be checked in one database.
func (d *DrillRun) amcheck(ctx context.Context, c *postgres.Conn, database string) error {
	if d.Amcheck == "off" {
		d.skipped("", "amcheck = \"off\"")
		return nil
	}
	a, why, err := c.Amcheck(ctx)
	if err != nil {
		return err
	}
	if a == nil {
		d.skipped(database, why)
		return nil
	}
	heap := d.Amcheck == "full"
	if heap && !a.ChecksHeap() {
		d.skipped("", "tables were not checked: PostgreSQL can from 14 on")
	}
	relations, err := a.Relations(ctx, heap)
	if err != nil {
		return err
	}
	d.result.Amcheck.Databases++
	for _, r := range relations {
		damage, err := a.Check(ctx, r)
		if err != nil {
			return err
		}
		what := "table " + r.Name
		if r.Heap {
			d.result.Amcheck.Tables++
		} else {
			what = "index " + r.Name + " of table " + r.Table
			d.result.Amcheck.Indexes++
		}
		if damage != "" {
			damage += a.Which(ctx, damage, r)
			d.result.Amcheck.Findings++
			d.fail("amcheck: %s of database %s: %s", what, database, damage)
		}
	}
	return nil
}

// skipped says once why amcheck did not look at something, and in which databases.
func (d *DrillRun) skipped(database, why string) {
	a := &d.result.Amcheck
	switch {
	case a.Skipped == "":
		a.Skipped = why
		if database != "" {
			a.Skipped += ": in database " + database
		}
	case strings.HasSuffix(a.Skipped, "…") || database == "" && strings.Contains(a.Skipped, why):
	case len(a.Skipped) > mostSkipped:
		a.Skipped += " and more…"
	case strings.Contains(a.Skipped, why):
		a.Skipped += ", " + database
	default:
		a.Skipped += "; " + why + ": in database " + database
	}
}

// mostSkipped bounds what is said of skipped databases.
const mostSkipped = 1000

// count counts the rows of the largest tables, and compares them with the drill before.
func (d *DrillRun) count(ctx context.Context, c *postgres.Conn, database string) error {
	if d.Canaries == 0 {
		return nil
	}
	before := map[string]int64{}
	var also []string
	for _, b := range d.before() {
		if b.Database == database {
			before[b.Table] = b.Rows
			also = append(also, b.Table)
		}
	}
	tables, err := c.CountedTables(ctx, d.Canaries, also)
	if err != nil {
		return err
	}
	for _, t := range tables {
		for _, name := range append(t.Parts, t.Name) { // a partition that was made of a table is not gone
			d.there = append(d.there, state.DrillRows{Database: database, Table: name})
		}
		n, err := c.CountRows(ctx, t)
		if err != nil {
			if ctx.Err() != nil || !c.Alive() || postgres.NoVerdict(err) {
				return err
			}
			d.fail("the rows of table %s of database %s cannot be read: %s", t.Name, database, postgres.Said(err))
			continue
		}
		r := state.DrillRows{Database: database, Table: t.Name, Rows: n}
		if had, ok := before[t.Name]; ok {
			r.Before = &had
			if lost := had - n; had > 0 && lost*100 > had*int64(d.MaxShrink) {
				d.fail("table %s of database %s has %d rows and had %d in the drill before: more than max_shrink of %d%% are gone", t.Name, database, n, had, d.MaxShrink)
			}
		}
		d.result.Rows = append(d.result.Rows, r)
	}
	return nil
}

// answer asks one declared check.
func (d *DrillRun) answer(ctx context.Context, user string, q hclspec.Check) error {
	out, err := answerOf(ctx, q, func() (*postgres.Conn, error) {
		return postgres.ConnectCopy(ctx, d.socket(), isolatedPort, user, q.Database)
	})
	if err != nil {
		return err
	}
	if why := unmet(out); why != "" {
		d.fail("%s", why)
	}
	d.result.Checks = append(d.result.Checks, out)
	return nil
}
