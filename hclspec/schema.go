package hclspec

import "time"

// block is the schema of one kind of block.
type block struct {
	name       string
	label      string // what the label is called; empty: the block has none
	single     bool   // may stand once
	later      bool   // known, and not built yet
	open       bool   // any attributes, and no blocks
	attributes []attribute
	blocks     []block
	either     []string // attributes of which exactly one says something
	refused    []string // reasons that no single attribute shows, for the documentation
}

// attribute is the schema of one attribute.
type attribute struct {
	name      string
	kind      kind
	required  bool
	standard  string // the default, as HCL; empty: none
	otherwise string // what holds without the attribute, where there is no constant default
}

// language is every block, in the order of the documentation.
func language() []block {
	return []block{
		pgkeepBlock(), variableBlock(),
		{name: "locals", open: true},
		repositoryBlock(), serverBlock(), scheduleBlock(), retentionBlock(),
		verifyBlock(),
		recoveryBlock(),
		drillBlock(),
		{name: "approval", single: true, attributes: []attribute{
			{name: "auto", kind: listOf(oneOf("safe", "declared", "destructive", "disruptive"), "list of impacts", refusal{"any other word", `["sure"]`}, refusal{"the same impact twice", `["safe", "safe"]`}), standard: `["safe", "declared"]`},
		}},
		removedBlock(), movedBlock(), outputBlock(),
		{name: "notify", label: "name", later: true},
		{name: "hook", label: "name", later: true},
	}
}

func pgkeepBlock() block {
	return block{name: "pgkeep", single: true, attributes: []attribute{
		{name: "required_version", kind: matching("version constraints", checkConstraints, refusal{"not constraints", `"new"`}), otherwise: "any version"},
	}, refused: []string{"this pgkeep does not meet `required_version`"}}
}

func repositoryBlock() block {
	return block{name: "repository", label: "name", attributes: []attribute{
		{name: "for_each", kind: kind{name: "map or set of strings"}, otherwise: "one repository"},
		{name: "path", kind: directory(), otherwise: "`url` says where"},
		{name: "url", kind: repositoryURL(), otherwise: "`path` says where"},
		{name: "host", kind: machine(), otherwise: "this machine"},
	}, blocks: []block{
		{name: "compression", single: true, attributes: []attribute{
			{name: "algorithm", kind: oneOf("zstd", "gzip", "lz4"), standard: `"zstd"`},
			{name: "level", kind: whole(1, 19), standard: "1"},
		}, refused: []string{"`level` above 9 with gzip or lz4"}},
		encryptionBlock(),
		{name: "object_lock", single: true, attributes: []attribute{
			{name: "mode", kind: oneOf("governance", "compliance"), required: true},
			{name: "margin", kind: duration(time.Hour, 365*24*time.Hour), standard: `"2d"`},
		}, refused: []string{"beside `path`, or a `url` of sftp"}},
	}, either: []string{"path", "url"}, refused: []string{
		"not exactly one of `path` and `url`", "`host` beside `url`",
		"two repositories in one path, or one inside the other, on one machine, or in one place of a store", "a key of `for_each` that cannot be a name",
		"a sensitive `for_each`", "more than 16,384 instances",
	}}
}

func serverBlock() block {
	return block{name: "server", label: "name", attributes: []attribute{
		{name: "for_each", kind: kind{name: "map or set of strings"}, otherwise: "one server"},
		{name: "conninfo", kind: secretText(), required: true},
		{name: "repositories", kind: references("repository"), required: true},
		{name: "stored_as", kind: matching("stored name", checkStored, refusal{"not one name, or two joined by one dot", `"a.b.c"`}), otherwise: "the label, or label.key"},
	}, blocks: []block{
		{name: "identity", single: true, attributes: []attribute{
			{name: "system_identifiers", required: true, kind: listOf(
				matching("", func(s string) error {
					if identifier.MatchString(s) {
						return nil
					}
					return mistake{quote(s) + " is not a system identifier.", "Write the decimal number that pg_control_system() shows, in quotes."}
				}), "list of decimal numbers", refusal{"not decimal", `["x"]`}, refusal{"twice the same", `["7", "7"]`})},
		}},
		{name: "slot", single: true, attributes: []attribute{
			{name: "name", kind: matching("slot name", checkSlot, refusal{"not lower-case letters, digits and `_`", `"orders-eu"`}, refusal{"longer than 63 bytes", `"` + long(64) + `"`}), otherwise: "`pgkeep_` and the stored name with `_` for `-` and `.`"},
			{name: "on_lost", kind: oneOf("replace", "fail"), standard: `"replace"`},
		}},
		receiverBlock(), backupBlock(),
		{name: "objective", single: true, attributes: []attribute{
			{name: "rpo", kind: duration(time.Second, 366*24*time.Hour), otherwise: "nothing is promised of it"},
			{name: "rto", kind: duration(time.Second, 366*24*time.Hour), otherwise: "nothing is promised of it"},
		}, refused: []string{"neither `rpo` nor `rto`"}},
	}, refused: []string{
		"two servers with one stored name or one slot name", "a key of `for_each` that cannot be a name", "a sensitive `for_each`",
		"more than 16,384 instances", "a default slot name longer than 63 bytes",
	}}
}

func receiverBlock() block {
	return block{name: "receiver", single: true, attributes: []attribute{
		{name: "host", kind: machine(), otherwise: "this machine"},
		{name: "synchronous", kind: boolean(), standard: "false"},
		{name: "acknowledge", kind: oneOf("spool", "repository"), standard: `"spool"`},
		{name: "quorum", kind: whole(1, 16), otherwise: "all repositories"},
		{name: "spool", kind: directory(), standard: `"/var/lib/pgkeep/spool"`},
		{name: "spool_limit", kind: limit(), otherwise: "until the file system has 10 % free"},
		{name: "on_spool_full", kind: oneOf("wait", "gap"), standard: `"wait"`},
		{name: "push_every", kind: duration(time.Second, time.Hour), standard: `"10s"`},
		{name: "application_name", kind: text(63), otherwise: "the slot's name"},
		{name: "timeout", kind: duration(5*time.Second, time.Hour), standard: `"30s"`},
	}, refused: []string{
		"`quorum` above the number of repositories", "`quorum` without `acknowledge = \"repository\"`",
		"`on_spool_full = \"gap\"` with `synchronous = true`",
	}}
}

func backupBlock() block {
	return block{name: "backup", single: true, attributes: []attribute{
		{name: "full_every", kind: duration(time.Hour, 366*24*time.Hour), standard: `"7d"`},
		{name: "max_rate", kind: rate(), otherwise: "as fast as it goes"},
		{name: "check_page_checksums", kind: boolean(), standard: "true"},
		{name: "checkpoint", kind: oneOf("spread", "fast"), standard: `"spread"`},
		{name: "from", kind: oneOf("primary", "standby", "any"), standard: `"primary"`},
		{name: "conninfo", kind: secretText(), otherwise: "the server's own `conninfo`"},
		{name: "transfer_compression", kind: oneOf("none", "zstd", "lz4", "gzip"), standard: `"none"`},
	}, refused: []string{"`conninfo` with `from = \"primary\"`, which it has when it is not written"}}
}

func scheduleBlock() block {
	return block{name: "schedule", label: "name", attributes: []attribute{
		{name: "servers", kind: references("server"), required: true},
		{name: "backup", kind: oneOf("auto", "full", "incremental"), standard: `"auto"`},
		{name: "cron", kind: matching("five cron fields, `H` spreads", checkCron, refusal{"not five fields", `"@daily"`}, refusal{"never comes", `"0 0 30 2 *"`}, refusal{"holds `TZ=`", `"TZ=UTC 0 1 * * *"`}), required: true},
		{name: "timezone", kind: zone(), standard: `"UTC"`},
		{name: "if_missed", kind: oneOf("run_once", "skip"), standard: `"run_once"`},
		{name: "start_within", kind: duration(time.Minute, 31*24*time.Hour), standard: `"4h"`},
	}}
}

func retentionBlock() block {
	return block{name: "retention", label: "name", attributes: []attribute{
		{name: "servers", kind: references("server"), required: true},
		{name: "repositories", kind: references("repository"), otherwise: "all of each server"},
		{name: "recovery_window", kind: duration(time.Hour, 36500*24*time.Hour), otherwise: "no window"},
		{name: "wal_window", kind: duration(time.Hour, 36500*24*time.Hour), otherwise: "WAL stays as long as the backups before it, but for `keep`"},
		{name: "redundancy", kind: whole(1, 10000), otherwise: "no count"},
		{name: "minimum_redundancy", kind: whole(1, 10000), standard: "1"},
		{name: "max_delete", kind: whole(1, 100000), standard: "5"},
		{name: "enforce", kind: oneOf("auto", "approve"), standard: `"auto"`},
	}, blocks: []block{keepBlock()}, refused: []string{
		"neither `recovery_window` nor `redundancy`, also with `keep`", "a server and repository that another retention has",
		"a repository that none of its servers writes to", "`wal_window` longer than `recovery_window`",
	}}
}

// keepBlock counts days, weeks, months and years that have a backup.
func keepBlock() block {
	return block{name: "keep", single: true, attributes: []attribute{
		{name: "daily", kind: whole(1, 10000), otherwise: "none for being the newest of a day"},
		{name: "weekly", kind: whole(1, 10000), otherwise: "none for being the newest of an ISO week"},
		{name: "monthly", kind: whole(1, 10000), otherwise: "none for being the newest of a month"},
		{name: "yearly", kind: whole(1, 10000), otherwise: "none for being the newest of a year"},
		{name: "timezone", kind: zone(), standard: `"UTC"`},
	}, refused: []string{"none of `daily`, `weekly`, `monthly` and `yearly`"}}
}

// zone is a time zone by its name.
func zone() kind {
	return matching("IANA time zone", func(s string) error { _, err := loadZone(s); return err }, refusal{"not known", `"Europe/Berln"`}, refusal{"`Local`", `"Local"`})
}

func recoveryBlock() block {
	return block{name: "recovery", label: "name", attributes: []attribute{
		{name: "server", kind: references("server"), required: true},
		{name: "wal_wait", kind: duration(time.Second, 7*24*time.Hour), standard: `"10m"`},
	}, blocks: []block{targetBlock(), {name: "destination", single: true, attributes: []attribute{
		{name: "host", kind: machine(), otherwise: "this machine"},
		{name: "path", kind: directory(), required: true},
		ownerAttribute(),
		{name: "bindir", kind: directory(), otherwise: "found on the machine"},
		{name: "port", kind: whole(1, 65535), standard: "5432"},
		{name: "tablespaces", kind: directories(), otherwise: "below the destination"},
		{name: "wal", kind: oneOf("fetch", "copy"), standard: `"fetch"`},
		{name: "overwrite", kind: boolean(), standard: "false"},
		{name: "databases", kind: databaseNames(), otherwise: "all"},
		{name: "primary_conninfo", kind: primaryText(), otherwise: "it is no standby"},
		{name: "primary_slot_name", kind: matching("slot name", checkSlot, refusal{"not the name of a slot", `"a b"`}), otherwise: "no slot"},
	}, refused: []string{"`primary_slot_name` without `primary_conninfo`", "`databases` with `primary_conninfo`", "`primary_conninfo` with another target than `latest` or `immediate`, or with a `timeline`"}}, checkBlock()}, refused: []string{
		"no `target` or no `destination`", "`server.x` of a `for_each` without its key", "two checks of one name",
		"a `check` with `action = \"shutdown\"`, with `primary_conninfo`, or in a database that `databases` leaves out",
	}}
}

// ownerAttribute is who runs what is restored.
func ownerAttribute() attribute {
	return attribute{name: "owner", kind: matching("user name", func(s string) error {
		if userName.MatchString(s) {
			return nil
		}
		return mistake{quote(s) + " is not the name of a user.", ""}
	}, refusal{"not a user name", `"post gres"`}), otherwise: "who runs pgkeep"}
}

func targetBlock() block {
	return block{name: "target", single: true, attributes: []attribute{
		{name: "time", kind: moment(), otherwise: "not the target"},
		{name: "lsn", kind: lsn(), otherwise: "not the target"},
		{name: "xid", kind: whole(3, 4294967295), otherwise: "not the target"},
		{name: "name", kind: text(63), otherwise: "not the target"},
		{name: "immediate", kind: boolean(), standard: "false"},
		{name: "latest", kind: boolean(), standard: "false"},
		{name: "inclusive", kind: boolean(), standard: "true"},
		{name: "timeline", kind: matching("number, or `\"latest\"`", checkTimeline, refusal{"neither a number from 1 nor `\"latest\"`", `"current"`}), standard: `"latest"`},
		{name: "action", kind: oneOf("pause", "promote", "shutdown"), standard: `"pause"`},
	}, refused: []string{
		"not exactly one of `time`, `lsn`, `xid`, `name`, `immediate`, `latest`", "`inclusive = false` with `immediate`, `latest` or `name`",
	}}
}

func removedBlock() block {
	return block{name: "removed", attributes: []attribute{
		{name: "from", kind: addressOf(), required: true},
		{name: "conninfo", kind: secretText(), otherwise: "the slot is left alone"},
		{name: "slot", kind: oneOf("drop", "keep"), standard: `"keep"`},
		{name: "slot_name", kind: matching("slot name", checkSlot, refusal{"not the name of a slot", `"a b"`}), otherwise: "the default slot name"},
		{name: "spool", kind: directory(), otherwise: "looked for where other servers have theirs, and in the standard place"},
		{name: "backups", kind: oneOf("keep"), standard: `"keep"`},
	}, refused: []string{"`from` is still declared", "`slot = \"drop\"` without `conninfo`", "the same `from` twice"}}
}

func movedBlock() block {
	return block{name: "moved", attributes: []attribute{
		{name: "from", kind: addressOf(), required: true},
		{name: "to", kind: addressOf(), required: true},
	}, refused: []string{
		"`from` is still declared, or removed", "`to` is not declared", "two `moved` blocks with one `from` or one `to`",
		"a circle of moves", "`stored_as` beside a `moved` that leads to the server", "`to` is a block with `for_each`, and `from` one instance",
	}}
}

// addressOf is written as a reference and never evaluated: the server may be gone.
func addressOf() kind { return kind{name: "`server.NAME` or `server.NAME[\"KEY\"]`", static: true} }

func outputBlock() block {
	return block{name: "output", label: "name", attributes: []attribute{
		{name: "value", kind: kind{name: "anything", sensitive: true}, required: true},
		{name: "sensitive", kind: boolean(), standard: "false"},
		{name: "description", kind: text(1000), otherwise: "none"},
	}, refused: []string{"a sensitive value without `sensitive = true`"}}
}

func variableBlock() block {
	return block{name: "variable", label: "name", attributes: []attribute{
		{name: "type", kind: kind{name: "type", static: true}, otherwise: "any type"},
		{name: "default", kind: kind{name: "constant", sensitive: true}, otherwise: "a value must be given"},
		{name: "description", kind: text(1000), otherwise: "none"},
		{name: "sensitive", kind: boolean(), standard: "false"},
		{name: "nullable", kind: boolean(), standard: "true"},
	}, blocks: []block{{name: "validation", attributes: []attribute{
		{name: "condition", kind: kind{name: "true or false"}, required: true},
		{name: "error_message", kind: text(2000), required: true},
	}}}, refused: []string{"a value of another type", "a value that a `validation` refuses", "null with `nullable = false`"}}
}

func text(most int) kind {
	return matching("text", func(s string) error {
		if s == "" || len(s) > most {
			return mistake{quote(s) + " is empty or too long.", ""}
		}
		return nil
	}, refusal{"empty", `""`}, refusal{"holds control characters", `"a\nb"`}, refusal{"too long", `"` + long(most+1) + `"`})
}

func long(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a'
	}
	return string(b)
}
