"""Permutation tests of whole patients, corrected p-values and jackknife intervals."""
