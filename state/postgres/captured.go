package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/jsonlist"
)

// Captured is the configuration of a server as a backup keeps it, because it may lie outside the data directory (Debian's
// /etc/postgresql). Passwords in it are replaced by "********".
type Captured struct {
	Settings jsonlist.Of[CapturedSetting] `json:"settings"`           // those that are not at their default, by name
	HBA      jsonlist.Of[string]          `json:"hba,omitempty"`      // lines of pg_hba.conf in order; absent: not readable
	Complete bool                         `json:"complete,omitempty"` // the role may read all settings
	// Tablespaces give the names that the destination of a recovery is written with; a base backup knows only numbers.
	Tablespaces jsonlist.Of[state.Tablespace] `json:"tablespaces,omitempty"`
}

// CapturedSetting is one setting with where it came from.
type CapturedSetting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`            // in the server's base unit, as postgresql.conf takes it
	Source string `json:"source"`           // "configuration file", "command line" …
	File   string `json:"file,omitempty"`   // when the role may know
	Custom bool   `json:"custom,omitempty"` // of an extension
}

const hidden = "********"

// Captured reads the server's configuration.
func (c *Conn) Captured(ctx context.Context) (Captured, error) {
	rows, err := c.rows(ctx, question{action: "read the configuration of " + c.server, sql: `
		select name, reset_val, source, sourcefile, category = 'Customized Options' from pg_settings
		where source not in ('default', 'override', 'client', 'session', 'database', 'user', 'database user')
		and context <> 'internal' and reset_val is not null order by name`})
	if err != nil {
		return Captured{}, err
	}
	var out Captured
	if out.Tablespaces, err = c.namedTablespaces(ctx); err != nil {
		return Captured{}, err
	}
	for _, row := range rows {
		f := &scan{fields: row}
		s := CapturedSetting{Name: f.text(), Value: f.text(), Source: f.text(), File: f.text(), Custom: f.bool()}
		if strings.Contains(s.Name, "conninfo") || strings.Contains(s.Name, "passphrase") || strings.Contains(s.Name, "password") && s.Name != "password_encryption" {
			s.Value = hidden
		}
		out.Settings = append(out.Settings, s)
	}
	row, err := c.row(ctx, 2, question{action: "ask " + c.server + " what the role may read", sql: `
		select pg_has_role('pg_read_all_settings', 'usage'), has_table_privilege('pg_hba_file_rules', 'select')
			and has_function_privilege('pg_hba_file_rules()', 'execute')`})
	if err != nil {
		return Captured{}, err
	}
	out.Complete = string(row[0]) == "t"
	if string(row[1]) != "t" {
		return out, nil
	}
	out.HBA, err = c.hba(ctx)
	return out, err
}

// hba reads the rules as the server has parsed them, and writes them as lines again.
func (c *Conn) hba(ctx context.Context) ([]string, error) {
	rows, err := c.rows(ctx, question{action: "read pg_hba.conf of " + c.server, sql: `
		select type, array_to_string(database, ','), array_to_string(user_name, ','), address, netmask, auth_method,
			array_to_string(options, E'\n')
		from pg_hba_file_rules where error is null order by line_number`})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, row := range rows {
		f := &scan{fields: row}
		var fields []string
		for range 6 {
			if v := f.text(); v != "" {
				fields = append(fields, hbaToken(v))
			}
		}
		for _, o := range strings.Split(f.text(), "\n") {
			if o != "" {
				fields = append(fields, hbaToken(hbaOption(o)))
			}
		}
		out = append(out, strings.Join(fields, " "))
	}
	return out, nil
}

// hbaOption hides the value of an option that is a secret.
func hbaOption(o string) string {
	name, _, _ := strings.Cut(o, "=")
	if strings.Contains(name, "passwd") || strings.Contains(name, "secret") {
		return name + "=" + hidden
	}
	return o
}

// hbaToken quotes what would be parted otherwise.
func hbaToken(s string) string {
	if strings.ContainsAny(s, " \t\"#") {
		return fmt.Sprintf("\"%s\"", strings.ReplaceAll(s, `"`, `""`))
	}
	return s
}
