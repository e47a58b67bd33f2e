// Package render draws a plan for people: a summary table, then each step with its reasons, what is not planned and why,
// warnings, what the clock will bring next, and what can be recovered now. It decides nothing.
package render
