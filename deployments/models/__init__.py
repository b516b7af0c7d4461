"""Packages, environments, what is deployed where, and tasks."""

from deployments.models.access import EnvironmentAccess as EnvironmentAccess
from deployments.models.deployed import Deployed as Deployed
from deployments.models.deployed import DeployedApplication as DeployedApplication
from deployments.models.environments import Dictionary as Dictionary
from deployments.models.environments import DictionaryEntry as DictionaryEntry
from deployments.models.environments import Environment as Environment
from deployments.models.environments import EnvironmentDictionary as EnvironmentDictionary
from deployments.models.environments import Member as Member
from deployments.models.packages import Application as Application
from deployments.models.packages import Artifact as Artifact
from deployments.models.packages import Deployable as Deployable
from deployments.models.packages import Package as Package
from deployments.models.packages import PackageMember as PackageMember
from deployments.models.tasks import Block as Block
from deployments.models.tasks import Step as Step
from deployments.models.tasks import StepLog as StepLog
from deployments.models.tasks import Task as Task
from deployments.models.tasks import TaskLock as TaskLock
from deployments.models.tasks import TaskNote as TaskNote
