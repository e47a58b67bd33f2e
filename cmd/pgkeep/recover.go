package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/repository/store/location"
)

// recoverFlags are what the command line says of a recovery.
type recoverFlags struct {
	text        hclspec.RecoveryText
	repository  string
	keys        hclspec.Encryption // with repository
	backup      string
	tablespaces []string
	acceptLoss  bool
	preview     bool
	start       bool
	agree       consent
}

func recoverCommand(a *app) *cobra.Command {
	var o recoverFlags
	c := &cobra.Command{
		Use: "recover [NAME]", Short: "Restore a server to a moment, into a new directory", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.recoveries(),
		Long: `Shows how the recovery would go (backup, timelines, bytes, the last commit before the target and the first after it),
asks, restores into an empty directory, and prepares PostgreSQL so that, once started there, it recovers to the target.
The server that is protected is not touched, and the copy is disarmed: it archives nothing and follows nobody.

There are three ways to say what to restore:
  recover NAME                            the block recovery "NAME" of the configuration
  recover NAME --to-time=...              the same block with another target
  recover --server S --into DIR --to-...  no block at all

With --repository no configuration is needed: it works on a machine where nothing but the repository is left. Of an
encrypted one --identity names what reads it.

With --start it then starts PostgreSQL there, as the owner, and waits until the target is reached: it says which transaction
is the last, and ends with exit code 8 when recovery ended elsewhere than the target. The server goes on running when pgkeep
ends; Ctrl-C before the target shuts it down, and the same command goes on from there.

A moment needs its offset: 2026-02-10T21:16:17Z or "2026-02-10 22:16:17+01". --target-time is accepted for --to-time,
as PostgreSQL's own setting is called, and so for the others.`,
		Example: `  pgkeep recover before_drop
  pgkeep recover before_drop --to-time 2026-02-10T21:16:17Z --exclusive
  pgkeep recover --server orders.eu --into /srv/restore --latest
  pgkeep recover --repository /srv/pgkeep --server orders.eu --into /srv/restore --to-name before_upgrade --yes
  pgkeep recover before_drop --port 5499 --start`,
		RunE: func(c *cobra.Command, args []string) error {
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			return a.recover(c, name, o)
		},
	}
	o.flags(c)
	return c
}

func (o *recoverFlags) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.text.Time, "to-time", "", "to a moment, with its offset")
	f.StringVar(&o.text.LSN, "to-lsn", "", "to a position in the WAL, for example 16/B374D848")
	f.StringVar(&o.text.XID, "to-xid", "", "to the end of a transaction")
	f.StringVar(&o.text.Name, "to-name", "", "to a restore point")
	f.BoolVar(&o.text.Immediate, "immediate", false, "only until the backup is consistent")
	f.BoolVar(&o.text.Latest, "latest", false, "to the end of the WAL")
	f.BoolVar(&o.text.Exclusive, "exclusive", false, "stop just before the target instead of just after it")
	f.StringVar(&o.text.Timeline, "timeline", "", "latest (default) or a number")
	f.StringVar(&o.text.Action, "action", "", "at the target: pause (default), promote or shutdown")
	f.StringVar(&o.repository, "repository", "", "path of a repository, instead of the configuration")
	f.StringArrayVar(&o.keys.IdentityFiles, "identity", nil, "with --repository: file with an age identity that reads it; can be repeated")
	f.StringArrayVar(&o.keys.IdentityCommand, "identity-command", nil, "with --repository: program that prints an age identity; repeated, its arguments")
	f.StringVar(&o.keys.PassphraseFile, "passphrase-file", "", "with --repository: file with the passphrase that reads it")
	f.StringArrayVar(&o.keys.TrustedWriters, "trusted-writer", nil, "with --repository: ed25519:... who wrote it; without, whoever did is believed")
	f.StringVar(&o.text.Server, "server", "", "stored name of the server")
	f.StringVar(&o.text.Path, "into", "", "directory to restore into: absent or empty, or see --overwrite")
	f.StringVar(&o.text.BinDir, "bindir", "", "directory of PostgreSQL's programs")
	f.IntVar(&o.text.Port, "port", 0, "port of the restored server (5432)")
	f.StringVar(&o.text.Owner, "owner", "", "user who will run it (who runs pgkeep)")
	f.StringArrayVar(&o.tablespaces, "tablespace", nil, "NAME=DIR, where a tablespace goes; can be repeated")
	f.StringVar(&o.text.WAL, "wal", "", "fetch WAL when PostgreSQL asks (default), or copy it beforehand")
	f.StringVar(&o.text.WALWait, "wal-wait", "", "how long a repository that does not answer is retried (10m)")
	f.BoolVar(&o.text.Overwrite, "overwrite", false, "restore over a stopped data directory of the same cluster, fetching only what differs")
	f.StringArrayVar(&o.text.Databases, "database", nil, "restore this database and not the others; can be repeated")
	f.StringVar(&o.text.PrimaryConninfo, "primary-conninfo", "", "make it a standby that follows this server; without a password")
	f.StringVar(&o.text.PrimarySlot, "primary-slot-name", "", "slot that the standby has on that server")
	f.StringVar(&o.backup, "backup", "", "id of the backup to start from; chosen without it")
	f.BoolVar(&o.acceptLoss, "accept-loss", false, "with --latest: also where the last WAL cannot be had: its receiver cannot be asked, or falls short")
	f.BoolVar(&o.start, "start", false, "start the restored server, and wait until it has reached the target")
	f.BoolVar(&o.preview, "preview", false, "only show how it would go")
	f.BoolVarP(&o.agree.yes, "yes", "y", false, "do not ask")
}

// targeted says whether the command line names a target.
func (o *recoverFlags) targeted() bool {
	t := o.text
	return t.Time != "" || t.LSN != "" || t.XID != "" || t.Name != "" || t.Immediate || t.Latest
}

func (a *app) recover(c *cobra.Command, name string, o recoverFlags) error {
	spec, err := a.recoverySpec(&o)
	if err != nil {
		return err
	}
	r, err := o.recovery(spec, name, c)
	if err != nil {
		return err
	}
	if !o.preview {
		if err := a.pushFirst(c.Context(), spec, r, o.acceptLoss); err != nil {
			return err
		}
	}
	looks := observe.Options{Now: a.now(), Env: a.env, Stores: a.stores, Recoveries: []hclspec.Recovery{r}, Backup: o.backup}
	seen := observe.World(c.Context(), spec, looks)
	if err := o.given(spec, seen, r.Server); err != nil {
		return err
	}
	p, err := a.plan(c.Context(), spec, seen, plan.Options{RecoverTo: &r, Backup: o.backup, AcceptLoss: o.acceptLoss, Start: o.start})
	if err != nil {
		return err
	}
	if o.start {
		if err := goOn(p); err != nil {
			return err
		}
	}
	if err := a.chosenDatabases(c.Context(), spec, p); err != nil {
		return err
	}
	work := order{plan: p, consent: o.agree, parallel: 4, byHand: true}
	if o.preview {
		if err := a.show(p); err != nil || len(p.Steps) > 0 {
			return err
		}
		return work.unplanned()
	}
	if !a.inTerminal && !o.agree.yes && len(p.Steps) > 0 {
		if err := a.show(p); err != nil {
			return err
		}
		return exit{exitNotApproved, &state.Error{Text: "nothing was restored: there is no terminal to ask on", Hint: "add --yes"}}
	}
	if err := a.carryOut(c.Context(), spec, work); err != nil {
		return err
	}
	if o.start {
		return a.afterStart(p)
	}
	a.afterRestore(r)
	return nil
}

// encryption gives the keys of the command line; nil: there are none.
func (o *recoverFlags) encryption() (*hclspec.Encryption, error) {
	k := o.keys
	if len(k.IdentityFiles)+len(k.IdentityCommand)+len(k.PassphraseFile) == 0 {
		if len(k.TrustedWriters) > 0 {
			return nil, usage("--trusted-writer goes with --identity, --identity-command or --passphrase-file")
		}
		return nil, nil
	}
	if o.repository == "" {
		return nil, usage("--identity, --identity-command and --passphrase-file go with --repository; the configuration names its own")
	}
	for i, path := range k.IdentityFiles {
		full, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("find identity: %w", err)
		}
		k.IdentityFiles[i] = full // wal-get reads it from another directory
	}
	if k.PassphraseFile != "" {
		full, err := filepath.Abs(k.PassphraseFile)
		if err != nil {
			return nil, fmt.Errorf("find passphrase: %w", err)
		}
		k.PassphraseFile = full
	}
	return &k, nil
}

// recoverySpec gives the configuration, or one that holds nothing but a repository.
func (a *app) recoverySpec(o *recoverFlags) (*hclspec.Spec, error) {
	keys, err := o.encryption()
	if err != nil {
		return nil, err
	}
	repository := o.repository
	if repository == "" {
		return a.load()
	}
	given := hclspec.Repository{Address: "repository.given", Name: "given", Encryption: keys}
	if location.IsURL(repository) {
		if _, err := location.ParseURL(repository); err != nil {
			return nil, usage("--repository: %s", err)
		}
		given.URL = repository
	} else {
		full, err := filepath.Abs(repository)
		if err != nil {
			return nil, fmt.Errorf("find repository: %w", err)
		}
		given.Path = full
	}
	return &hclspec.Spec{
		Repositories: []hclspec.Repository{given},
		Approval:     hclspec.Approval{Auto: []string{"safe", "declared"}},
	}, nil
}

// given refuses a repository of the command line that is none, or that knows no such server: without a configuration
// nothing else can say so in the operator's words.
func (o *recoverFlags) given(spec *hclspec.Spec, seen state.Observation, server string) error {
	if o.repository == "" {
		return nil
	}
	place := spec.Repositories[0].Location()
	r := seen.Repositories[spec.Repositories[0].Name]
	if u := r.Unknown; u != nil {
		return &state.Error{Code: u.Code, Text: "nothing was restored: " + u.Because, Hint: placeHint(u)}
	}
	if _, ok := r.Clusters[server]; !ok {
		return &state.Error{Code: state.CodeAbsent, Text: fmt.Sprintf("nothing was restored: %s holds no backup of %s", place, server), Hint: "it has " + orNone(sorted(r.Clusters))}
	}
	return nil
}

// placeHint is the driver's own advice where it has one: it knows what is wrong with the place.
func placeHint(u *state.Unknown) string {
	if u.Hint == "" || u.Code == state.CodeAbsent || u.Code == state.CodeNotRepository {
		return "name the directory, or the URL with its prefix, that holds REPOSITORY.json"
	}
	return u.Hint
}

// recovery puts a recovery together from a block and flags; the flags win.
func (o *recoverFlags) recovery(spec *hclspec.Spec, name string, c *cobra.Command) (hclspec.Recovery, error) {
	var block *hclspec.Recovery
	t := o.text
	if name != "" {
		if o.repository != "" {
			return hclspec.Recovery{}, usage("--repository works without a configuration, so it has no recovery %q: name --server and --into", name)
		}
		var err error
		if block, err = recoveryNamed(spec, name); err != nil {
			return hclspec.Recovery{}, err
		}
		if t.Server != "" && t.Server != block.Server {
			return hclspec.Recovery{}, usage("recovery %q restores %s, not %s", name, block.Server, t.Server)
		}
		fill(&t, block)
		if !o.targeted() {
			if c.Flags().Changed("exclusive") {
				return hclspec.Recovery{}, usage("--exclusive goes with --to-time, --to-lsn or --to-xid")
			}
			t.Latest = true // replaced by the block's own target below
		}
	}
	if t.Server == "" || t.Path == "" {
		return hclspec.Recovery{}, usage("name a recovery block, or --server and --into")
	}
	if block == nil && o.repository == "" {
		s, err := server(spec, t.Server)
		if err != nil {
			return hclspec.Recovery{}, err
		}
		t.Server = s.Name
	}
	if err := o.readTablespaces(&t); err != nil {
		return hclspec.Recovery{}, err
	}
	full, err := filepath.Abs(t.Path)
	if err != nil {
		return hclspec.Recovery{}, fmt.Errorf("find %s: %w", t.Path, err)
	}
	t.Path = full
	r, err := hclspec.NewRecovery(t, time.Local)
	if err != nil {
		return r, usage("%s", err)
	}
	r.Name, r.Address = "by-hand", "recover"
	if block != nil {
		r.Name, r.Address, r.Where, r.Destination.Host, r.Checks = block.Name, block.Address, block.Where, block.Destination.Host, block.Checks
		if !o.targeted() {
			action, timeline := r.Target.Action, r.Target.Timeline
			r.Target = block.Target
			if o.text.Action != "" {
				r.Target.Action = action
			}
			if o.text.Timeline != "" {
				r.Target.Timeline = timeline
			}
		}
	}
	if err := r.Askable(); err != nil && o.start {
		return r, usage("%s", err)
	}
	return r, nil
}

// fill takes what the flags leave open from the block.
func fill(t *hclspec.RecoveryText, block *hclspec.Recovery) {
	d := block.Destination
	t.Server = block.Server
	for _, f := range []struct {
		flag  *string
		block string
	}{
		{&t.Path, d.Path},
		{&t.Owner, d.Owner},
		{&t.BinDir, d.BinDir},
		{&t.WAL, d.WAL},
		{&t.PrimaryConninfo, d.PrimaryConninfo},
		{&t.PrimarySlot, d.PrimarySlot},
		{&t.Action, block.Target.Action},
		{&t.WALWait, hclspec.FormatDuration(block.WALWait)},
	} {
		if *f.flag == "" {
			*f.flag = f.block
		}
	}
	if t.Timeline == "" && block.Target.Timeline != 0 {
		t.Timeline = fmt.Sprint(block.Target.Timeline)
	}
	if t.Port == 0 {
		t.Port = d.Port
	}
	t.Tablespaces = d.Tablespaces
	if len(t.Databases) == 0 {
		t.Databases = d.Databases
	}
	t.Overwrite = t.Overwrite || d.Overwrite
}

func (o *recoverFlags) readTablespaces(t *hclspec.RecoveryText) error {
	if len(o.tablespaces) == 0 {
		return nil
	}
	t.Tablespaces = map[string]string{}
	for _, v := range o.tablespaces {
		name, dir, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return usage("--tablespace wants NAME=DIR")
		}
		t.Tablespaces[name] = dir
	}
	return nil
}
