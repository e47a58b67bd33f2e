package hclspec

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty/function"
)

// LoadOptions is what a configuration may depend on besides its files.
type LoadOptions struct {
	Vars     map[string]string // --var NAME=VALUE, strongest
	VarFiles []string          // --var-file, names in the fs.FS, later ones win
	Env      map[string]string // the environment; only PGKEEP_VAR_name is read
	Version  string            // of this pgkeep, for required_version; empty: not compared
	Hostname string            // this machine's name, as `host` means it; where two paths without host lie
	// Conninfo says what is wrong with a connection string, and what to do; both empty: nothing. Neither may quote a value
	// of it. nil: what stands in connection strings is not looked at.
	Conninfo func(conninfo string) (what, hint string)
	Zone     *time.Location // for telling what a time without offset could mean; nil: only UTC is told
}

// Load reads the configuration in the directory dir of fsys: every *.hcl, with values for its variables, strongest
// first, from Vars, VarFiles, *.auto.vars.hcl, pgkeep.vars.hcl and PGKEEP_VAR_name. When the diagnostics hold an error,
// the Spec has nothing but Files, which WriteDiagnostics needs to quote the source.
func Load(fsys fs.FS, dir string, o LoadOptions) (*Spec, hcl.Diagnostics) {
	l := newLoader(fsys, o)
	spec := l.load(dir)
	l.tellPlaces()
	diags := tidy(l.diags)
	relocate(l.files, diags)
	if diags.HasErrors() {
		spec = &Spec{}
	}
	spec.Files = l.files
	return spec, diags
}

// loader is one Load in progress.
type loader struct {
	sources
	o         LoadOptions
	diags     hcl.Diagnostics
	offered   map[string]offered
	functions map[string]function.Function
	work      int  // spent of maxWork
	overspent bool // said so

	unnamed map[string]*unnamed // by what was meant

	blocks       map[string][]*hcl.Block // top-level blocks by type
	contents     map[hcl.Body]*hcl.BodyContent
	strange      map[hcl.Body][]string // the words in a body that it does not know
	readied      map[hcl.Expression]*ready
	standards    map[string]any
	variables    map[string]*variable
	locals       map[string]*local
	repositories map[string]*declared
	servers      map[string]*declared
	built        map[string]Repository // by name: those that are right
	moves        map[place]*move       // by where they lead
	half         bool                  // something could not be read, or is no block
	trail        []string              // the names being evaluated, outermost first, for cycles
}

func newLoader(fsys fs.FS, o LoadOptions) *loader {
	known := allowedFunctions()
	return &loader{
		sources: sources{fsys: fsys, files: map[string]*hcl.File{}}, o: o, offered: known, functions: functions(known),
		unnamed: map[string]*unnamed{}, blocks: map[string][]*hcl.Block{}, contents: map[hcl.Body]*hcl.BodyContent{}, strange: map[hcl.Body][]string{}, readied: map[hcl.Expression]*ready{},
		standards: map[string]any{}, variables: map[string]*variable{}, locals: map[string]*local{},
		repositories: map[string]*declared{}, servers: map[string]*declared{}, moves: map[place]*move{}, built: map[string]Repository{},
	}
}

func (l *loader) load(dir string) *Spec {
	config, values, diags := l.list(dir)
	l.diags = append(l.diags, diags...)
	l.half = diags.HasErrors()
	top := block{name: "configuration", blocks: language()}
	for _, name := range config {
		body, diags := l.sources.read(name, &top)
		l.diags = append(l.diags, diags...)
		if body == nil {
			l.half = true
			continue
		}
		c := l.content(&top, body)
		l.half = l.half || c.Attributes == nil
		for _, b := range c.Blocks {
			l.blocks[b.Type] = append(l.blocks[b.Type], b)
		}
	}
	l.declare()
	l.readVersion()
	l.readVariables(values)
	s := l.build()
	if l.half {
		l.forgive()
		return &Spec{}
	}
	return s
}

// forgive drops the errors about names that nothing declares: what could not be read may declare them.
func (l *loader) forgive() {
	for _, u := range l.unnamed {
		l.diags = slices.DeleteFunc(l.diags, func(d *hcl.Diagnostic) bool { return d == u.said })
	}
	clear(l.unnamed)
}

// build evaluates and decodes everything that was declared.
func (l *loader) build() *Spec {
	s := &Spec{Approval: Approval{Auto: []string{"safe", "declared"}}}
	for _, name := range sortedKeys(l.locals) {
		l.localValue(name)
	}
	s.Repositories = l.buildRepositories()
	for _, r := range s.Repositories {
		l.built[r.Name] = r
	}
	s.Servers = l.buildServers()
	s.Schedules = l.buildSchedules()
	s.Retentions = l.buildRetentions(s.Servers)
	s.Verifies = l.buildVerifies(s.Servers)
	s.Recoveries = l.buildRecoveries()
	s.Drills = l.buildDrills(s.Servers)
	s.Removed = l.buildRemoved()
	l.checkMoves(s.Removed)
	if b := l.blocks["approval"]; len(b) > 0 {
		s.Approval = l.buildApproval(b[0])
	}
	s.Outputs = l.buildOutputs()
	return s
}

// readVersion compares this pgkeep with required_version.
func (l *loader) readVersion() {
	for _, b := range l.blocks["pgkeep"] {
		schema := pgkeepBlock()
		d := l.decode(&schema, b.Body, b.DefRange, nil)
		want := text0(d, "required_version")
		ours, ok := parseVersion(l.o.Version)
		if want == "" || !ok {
			continue
		}
		all, err := parseConstraints(want)
		if err != nil {
			continue // reported by decode
		}
		for _, c := range all {
			if !c.met(ours) {
				at := d.ranges["required_version"]
				l.fail("Another pgkeep is wanted", "This is pgkeep "+l.o.Version+", and the configuration asks for "+want+".", "Install a pgkeep that meets it.", &at)
				break
			}
		}
	}
}

func (l *loader) fail(summary, detail, hint string, at *hcl.Range) {
	l.diags = append(l.diags, failure(summary, detail, hint, at))
}

// tidy sorts by place and drops what says the same of the same place: the instances of a for_each share their lines.
func tidy(diags hcl.Diagnostics) hcl.Diagnostics {
	slices.SortStableFunc(diags, func(a, b *hcl.Diagnostic) int {
		x, y := subject(a), subject(b)
		return cmp.Or(cmp.Compare(x.Filename, y.Filename), cmp.Compare(x.Start.Byte, y.Start.Byte), cmp.Compare(a.Summary, b.Summary))
	})
	diags = slices.CompactFunc(diags, func(a, b *hcl.Diagnostic) bool {
		return a.Subject != nil && a.Severity == b.Severity && a.Summary == b.Summary && subject(a) == subject(b)
	})
	if n := len(diags); n > maxDiagnostics {
		diags = append(diags[:maxDiagnostics:maxDiagnostics], failure("More errors", fmt.Sprintf("%d more are not shown.", n-maxDiagnostics), "", nil))
	}
	return diags
}

// relocate counts the lines of places in JSON again.
func relocate(files map[string]*hcl.File, diags hcl.Diagnostics) {
	for _, d := range diags {
		if d.Subject != nil {
			d.Subject = relocated(files, *d.Subject).Ptr()
		}
	}
}

// maxDiagnostics is how many are worth reading in one go.
const maxDiagnostics = 200

func subject(d *hcl.Diagnostic) hcl.Range {
	if d.Subject == nil {
		return hcl.Range{}
	}
	return *d.Subject
}

func sortedKeys[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
