"""Prints, as a JSON list, what OpenUSD's compliance checker has to say against a file by Apple's rules for ARKit."""

import json
import sys

from pxr import UsdUtils

checker = UsdUtils.ComplianceChecker(arkit=True, skipARKitRootLayerCheck=False)
checker.CheckCompliance(sys.argv[1])
print(json.dumps([*checker.GetErrors(), *checker.GetFailedChecks(), *checker.GetWarnings()]))
