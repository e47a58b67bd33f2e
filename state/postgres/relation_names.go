package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgkeep/pgkeep/state/wal"
)

// RelationName is what a server calls the relation that a file belongs to.
type RelationName struct {
	File wal.Relation
	Name string // schema.relation
	Kind string // as KindOfRelation
}

// WithDatabase gives the same with another database for SQL sessions.
func (c Conninfo) WithDatabase(name string) Conninfo {
	c.database = name
	return c
}

// DatabaseNames gives the names of the databases that can be connected to, by oid.
func (c *Conn) DatabaseNames(ctx context.Context) (map[uint32]string, error) {
	action := "ask " + c.server + " for its databases"
	rows, err := c.rows(ctx, question{action: action, sql: "select oid, datname from pg_catalog.pg_database where datallowconn"})
	if err != nil {
		return nil, err
	}
	out := map[uint32]string{}
	for _, row := range rows {
		f := &scan{fields: row}
		out[uint32(f.number())] = f.text()
		if f.err != nil {
			return nil, classifier{action: action}.problem(f.err)
		}
	}
	return out, nil
}

// RelationNames tells what relations files of the session's own database belong to now. A file that no relation has any
// more is left out.
func (c *Conn) RelationNames(ctx context.Context, files []wal.Relation) ([]RelationName, error) {
	var tablespaces, numbers []string
	for _, r := range files {
		tablespaces, numbers = append(tablespaces, fmt.Sprint(r.Tablespace)), append(numbers, fmt.Sprint(r.Number))
	}
	action := "ask " + c.server + " for the names of relations"
	rows, err := c.rows(ctx, question{
		action: action, sql: `
		select f.n, s.nspname || '.' || c.relname, c.relkind::text
		from unnest($1::oid[], $2::oid[]) with ordinality f(tablespace, number, n)
		join pg_catalog.pg_class c on c.oid = pg_catalog.pg_filenode_relation(f.tablespace, f.number)
		join pg_catalog.pg_namespace s on s.oid = c.relnamespace`,
		args: []string{"{" + strings.Join(tablespaces, ",") + "}", "{" + strings.Join(numbers, ",") + "}"},
	})
	if err != nil {
		return nil, err
	}
	var out []RelationName
	for _, row := range rows {
		f := &scan{fields: row}
		n, name, kind := int(f.number()), f.text(), f.text()
		if f.err == nil && (n < 1 || n > len(files) || len(kind) != 1) {
			f.err = fmt.Errorf("file %d of %d is a %q", n, len(files), kind)
		}
		if f.err != nil {
			return nil, classifier{action: action}.problem(f.err)
		}
		out = append(out, RelationName{File: files[n-1], Name: name, Kind: KindOfRelation(kind[0])})
	}
	return out, nil
}
